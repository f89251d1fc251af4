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

/// The lanes in two halves of eight: (0 … 7) and (8 … 15).
struct Halves {
  __m256 low, high;
};
inline Halves halves16(F32x16 x) {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  return {_mm512_castps512_ps256(x.v), _mm512_extractf32x8_ps(x.v, 1)};
#else
  return {x.lo, x.hi};
#endif
}

/// The bits of sum_lanes16, in registers.
inline float fold_sum16(F32x16 x) {
  const Halves h = halves16(x);
  const __m256 eight = _mm256_add_ps(h.low, h.high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/// The largest lane; any value if one is NaN.
inline float fold_max16(F32x16 x) {
  const Halves h = halves16(x);
  const __m256 eight = _mm256_max_ps(h.low, h.high);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace mole::kernels::MOLE_ISA
