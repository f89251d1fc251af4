// exp(x) in float32, sixteen lanes, the same bits on every machine; within 2 units in the last
// place. Method: x = n ln2 + r, |r| <= ln2/2, ln2 split in two parts (Cody and Waite); Taylor's
// polynomial of degree 7 in r (it leaves out r^8/8! < 5.2e-9, a tenth of half a unit); times 2^n.
// Above 88.7228 the result is infinity; below -87.33, where it would be denormal, 0 if denormals
// are flushed, as in a ThreadTeam. exp(-infinity) = 0. A NaN is not kept: it gives 0.
#pragma once

#include "kernels/cpu/simd.h"

namespace mole::kernels::MOLE_ISA {

/// exp(x) = fraction * 2^n, for x in [-105, 88.73] or NaN.
struct ExpParts {
  F32x16 fraction, n;
};
inline ExpParts exp_parts16(F32x16 x) {
  const F32x16 n = round16(mul16(x, set16(1.44269504088896341f)));
  F32x16 r = fnma16(n, set16(0.693359375f), x);
  r = fnma16(n, set16(-2.12194440e-4f), r);
  F32x16 p = set16(1.0f / 5040.0f);
  p = fma16(p, r, set16(1.0f / 720.0f));
  p = fma16(p, r, set16(1.0f / 120.0f));
  p = fma16(p, r, set16(1.0f / 24.0f));
  p = fma16(p, r, set16(1.0f / 6.0f));
  p = fma16(p, r, set16(0.5f));
  p = fma16(p, r, set16(1.0f));
  p = fma16(p, r, set16(1.0f));
  return {p, n};
}

inline F32x16 exp16(F32x16 x) {
  x = max16(x, set16(-105.0f));
  x = min16(x, set16(88.73f));
  const ExpParts parts = exp_parts16(x);
  // In two steps: the largest results need 2^128, which is no float.
  const F32x16 half = round16(mul16(parts.n, set16(0.5f)));
  return mul16(mul16(parts.fraction, exp2_int16(half)), exp2_int16(sub16(parts.n, half)));
}

/// One value, by the same operations.
inline float exp1(float x) {
  alignas(64) float lane[16];
  store16(lane, exp16(set16(x)));
  return lane[0];
}

}  // namespace mole::kernels::MOLE_ISA
