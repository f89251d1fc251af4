// y = x / sqrt(mean(x^2) + eps) * weight, per row. Source: arXiv 1910.07467.
// Numerics: sum of squares in float32 over 16 interleaved chains (element i in chain i mod 16), the
// chains added pairwise (i, i+8), (i, i+4), (i, i+2), (i, i+1); result rounded once.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

struct RmsNormArgs {
  const void* x = nullptr;       // [rows, dim] dtype, row stride x_stride elements
  const void* weight = nullptr;  // [dim] dtype
  void* y = nullptr;             // [rows, dim] dtype, row stride y_stride; may equal x
  DType dtype = DType::kFloat32;
  int64_t rows = 0, dim = 0, x_stride = 0, y_stride = 0;
  float eps = 1e-6f;
  float* inverse_rms = nullptr;  // [rows] for the backward, or null
};
void rms_norm(const RmsNormArgs& args, ThreadTeam& team);

struct RmsNormBackwardArgs {
  RmsNormArgs forward;       // x, weight, inverse_rms as in the forward
  const void* dy = nullptr;  // [rows, dim] dtype, contiguous
  float* dx = nullptr;       // [rows, dim] float32, contiguous; overwritten
  float* dweight = nullptr;  // [dim] float32; added to, rows in ascending order
  /// [rows, dim] dtype, contiguous, added to dx; or null. The residual stream's gradient, where x
  /// also goes on unnormalised (add_rms_norm).
  const void* dresidual = nullptr;
};
void rms_norm_backward(const RmsNormBackwardArgs& args, ThreadTeam& team);

/// The same formulas in float64 on contiguous arrays; dx and dweight are overwritten.
void rms_norm_ref(const double* x, const double* weight, int64_t rows, int64_t dim, double eps,
                  double* y);
void rms_norm_backward_ref(const double* x, const double* weight, const double* dy, int64_t rows,
                           int64_t dim, double eps, double* dx, double* dweight);

}  // namespace mole::kernels
