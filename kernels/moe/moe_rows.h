// moe's arithmetic on single rows, per instruction set. Plain types only: a header that is compiled
// for several instruction sets must leave nothing that the linker could merge.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mole::kernels {

/// One token's sum over its choices: y = sum_j w[j] * rows[j], or without weights sum_j rows[j];
/// choices with id -1 add nothing.
struct CombineRow {
  const float* rows = nullptr;  // [K, D]
  const int32_t* expert_ids = nullptr;
  const float* weights = nullptr;  // [K] or null
  int32_t top_k = 0;
  int64_t hidden = 0;
  void* y = nullptr;  // [D]
  DType dtype = DType::kFloat32;
};

/// One choice's way back through the activation.
struct ActivationRow {
  const float* gate_up = nullptr;  // [2F]
  float* g = nullptr;              // [F] down^T dy; scaled by the weight afterwards
  float weight = 0;
  int64_t width = 0;  // F
  DType dtype = DType::kFloat32;
  void* h = nullptr;         // [F] out: the activation times the weight
  void* dgate_up = nullptr;  // [2F] out
  float* dweight = nullptr;  // [1] out
};

namespace avx2 {
void combine_row(const CombineRow& row);
void activation_backward_row(const ActivationRow& row);
}  // namespace avx2
namespace avx512 {
void combine_row(const CombineRow& row);
void activation_backward_row(const ActivationRow& row);
}  // namespace avx512

}  // namespace mole::kernels
