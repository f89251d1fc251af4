// One row of silu_mul per instruction set, for silu_mul and for moe. Rows are [2F] and [F].
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mole::kernels {

struct SiluMulRow {
  const void* gate_up = nullptr;  // [2F] in_dtype
  DType in_dtype = DType::kFloat32;
  int64_t width = 0;          // F
  void* y = nullptr;          // [F] out_dtype (forward)
  const float* dy = nullptr;  // [F] (backward)
  void* dgate_up = nullptr;   // [2F] out_dtype (backward)
  DType out_dtype = DType::kFloat32;
};

/// In the calling thread, which must flush denormals.
void silu_mul_row(const SiluMulRow& row);
void silu_mul_backward_row(const SiluMulRow& row);

namespace avx2 {
void silu_mul_row(const SiluMulRow& row);
void silu_mul_backward_row(const SiluMulRow& row);
}  // namespace avx2
namespace avx512 {
void silu_mul_row(const SiluMulRow& row);
void silu_mul_backward_row(const SiluMulRow& row);
}  // namespace avx512

}  // namespace mole::kernels
