// y = silu(gate) * up, silu(z) = z / (1 + exp(-z)): the middle of a SwiGLU. Source: arXiv 2002.05202.
// Numerics: float32, exp of kernels/cpu/exp.h, rounded once.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

struct SiluMulArgs {
  const void* gate_up = nullptr;  // [rows, 2F] in_dtype, contiguous: gate then up
  DType in_dtype = DType::kFloat32;
  int64_t rows = 0, width = 0;    // F
  void* y = nullptr;              // [rows, F] out_dtype, contiguous
  DType out_dtype = DType::kFloat32;
};
void silu_mul(const SiluMulArgs& args, ThreadTeam& team);

struct SiluMulBackwardArgs {
  SiluMulArgs forward;
  const float* dy = nullptr;      // [rows, F]
  void* dgate_up = nullptr;       // [rows, 2F] in forward.out_dtype; overwritten
};
void silu_mul_backward(const SiluMulBackwardArgs& args, ThreadTeam& team);

}  // namespace mole::kernels
