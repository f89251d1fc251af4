// What the row-wise operations need beside kernels/cpu/simd.h: sixteen lanes from fewer elements,
// and an exponential that keeps NaN, so that a broken activation shows up as NaN in the output and
// not as zero.
#pragma once

#include <cstdint>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/simd.h"

namespace mole::kernels::MOLE_ISA {

inline float widen(float x) { return x; }
inline float widen(BFloat16 x) { return to_float(x); }
inline void narrow(float* p, float x) { *p = x; }
inline void narrow(BFloat16* p, float x) { *p = to_bfloat16(x); }

/// The first `count` (0 to 16) lanes from p, the others zero; reads nothing past p[count - 1].
template <typename T>
F32x16 load_partial16(const T* p, int64_t count) {
  if (count >= 16) return load16(p);
  alignas(64) float lane[16] = {};
  for (int64_t i = 0; i < count; ++i) lane[i] = widen(p[i]);
  return load16(lane);
}

/// Writes the first `count` (0 to 16) lanes and nothing past them.
template <typename T>
void store_partial16(T* p, F32x16 x, int64_t count) {
  if (count >= 16) return store16(p, x);
  alignas(64) float lane[16];
  store16(lane, x);
  for (int64_t i = 0; i < count; ++i) narrow(p + i, lane[i]);
}

/// exp16 for x <= 0 where NaN stays NaN; -infinity gives 0. The clamp has the constant first
/// because max16 returns its second operand when either is NaN.
inline F32x16 exp16_keep_nan(F32x16 x) {
  const F32x16 clamped = max16(set16(-88.0f), x);
  return add16(exp16(clamped), sub16(clamped, clamped));
}

}  // namespace mole::kernels::MOLE_ISA
