// y = silu(gate) * up, silu(z) = z / (1 + exp(-z)): the middle of a SwiGLU. Source: arXiv
// 2002.05202. Numerics: float32, exp of kernels/cpu/exp.h, rounded once.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

struct SiluMulArgs {
  const void* gate_up = nullptr;  // [rows, 2F] in_dtype, contiguous: gate then up
  DType in_dtype = DType::kFloat32;
  int64_t rows = 0, width = 0;  // F
  void* y = nullptr;            // [rows, F] out_dtype, contiguous
  DType out_dtype = DType::kFloat32;
};
void silu_mul(const SiluMulArgs& args, ThreadTeam& team);

struct SiluMulBackwardArgs {
  SiluMulArgs forward;
  const float* dy = nullptr;  // [rows, F]
  void* dgate_up = nullptr;   // [rows, 2F] in forward.out_dtype; overwritten
};
void silu_mul_backward(const SiluMulBackwardArgs& args, ThreadTeam& team);

/// In float64: what every implementation is held against. gate_up [rows, 2F], y and dy [rows, F],
/// dgate_up [rows, 2F].
void silu_mul_ref(const double* gate_up, double* y, int64_t rows, int64_t width);
void silu_mul_backward_ref(const double* gate_up, const double* dy, double* dgate_up, int64_t rows,
                           int64_t width);

}  // namespace mole::kernels
