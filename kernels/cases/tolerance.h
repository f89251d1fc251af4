// The error models of docs/numerics.md as numbers. All are bounds on absolute differences from
// float64 results of the same (already rounded) inputs.
#pragma once

#include <cmath>
#include <cstdint>

#include "base/dtype.h"

namespace mole::kernels {

/// Unit roundoff: half the distance from 1 to the next number.
inline constexpr double kUnitF32 = 0x1p-24;
inline constexpr double kUnitBf16 = 0x1p-8;

constexpr double unit_of(DType dtype) { return dtype == DType::kBFloat16 ? kUnitBf16 : kUnitF32; }

/// "rounding": storing `value` in `dtype`. The floor stands for flushed denormals.
inline double rounding_tolerance(double value, DType dtype) {
  return std::abs(value) * unit_of(dtype) + 0x1p-125;
}

/// "chain": a sum of `terms` products in float32, in any order: gamma_n = n u / (1 - n u) times the
/// sum of the terms' magnitudes (Higham, Accuracy and Stability of Numerical Algorithms,
/// section 3.1).
inline double chain_tolerance(int64_t terms, double sum_of_magnitudes) {
  const double nu = static_cast<double>(terms + 1) * kUnitF32;
  return nu / (1 - nu) * sum_of_magnitudes + static_cast<double>(terms + 1) * 0x1p-125;
}

/// "steps": an expression of `steps` roundings in float32 whose largest intermediate value is
/// `magnitude`.
inline double steps_tolerance(int64_t steps, double magnitude) {
  return chain_tolerance(steps, std::abs(magnitude));
}

}  // namespace mole::kernels
