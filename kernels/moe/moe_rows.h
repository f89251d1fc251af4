// moe's arithmetic on single rows, per instruction set. Plain types only: a header that is compiled
// for several instruction sets must leave nothing that the linker could merge.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mole::kernels {

/// Some columns of one token's sum over its choices: y = sum_j w[j] * rows[j], or without weights
/// sum_j rows[j]; choices with id -1 add nothing.
struct CombineRow {
  const float* rows = nullptr;  // [K, columns], `stride` apart
  int64_t stride = 0;
  const int32_t* expert_ids = nullptr;
  const float* weights = nullptr;  // [K] or null
  int32_t top_k = 0;
  int64_t columns = 0;
  void* y = nullptr;  // [columns]
  DType dtype = DType::kFloat32;
};

/// Some columns of one choice's activation, silu(gate) * up rounded to the dtype, by silu_mul's
/// arithmetic.
struct ActivateRow {
  const float* gate = nullptr;  // [width]
  const float* up = nullptr;
  int64_t width = 0;
  DType dtype = DType::kFloat32;
  void* h = nullptr;            // out: 32 columns together, the next 32 `step` elements further on;
  int64_t step = 0;             // the last 32 filled up with zeros
  float* saved_gate = nullptr;  // [width] out, copies of gate and up, or null
  float* saved_up = nullptr;
};

/// Sixteen columns of up to 16 choices' activation, rounded to bfloat16.
struct ActivateTile {
  const float* gate = nullptr;  // [count][16]
  const float* up = nullptr;
  int64_t count = 0;
  BFloat16* h = nullptr;  // out: rows of 16,
  int64_t step = 0;       // so many elements apart
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
void activate_row(const ActivateRow& row);
void activate_tile(const ActivateTile& tile);
void activation_backward_row(const ActivationRow& row);
}  // namespace avx2
namespace avx512 {
void combine_row(const CombineRow& row);
void activate_row(const ActivateRow& row);
void activate_tile(const ActivateTile& tile);
void activation_backward_row(const ActivationRow& row);
}  // namespace avx512

}  // namespace mole::kernels
