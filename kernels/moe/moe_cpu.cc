#include <algorithm>

#include "kernels/cpu/simd.h"
#include "kernels/moe/moe_rows.h"
#include "kernels/silu_mul/silu_lanes.h"
#include "kernels/silu_mul/silu_mul_impl.h"

namespace mole::kernels::MOLE_ISA {
namespace {

template <typename T>
void combine(const CombineRow& row) {
  auto* y = static_cast<T*>(row.y);
  for (int64_t d = 0; d < row.columns; d += 16) {
    const int64_t lanes = row.columns - d;
    F32x16 sum = zero16();
    for (int32_t j = 0; j < row.top_k; ++j) {
      if (row.expert_ids[j] < 0) continue;
      const F32x16 value = load_part16(row.rows + j * row.stride + d, lanes);
      sum = row.weights == nullptr ? add16(sum, value) : fma16(set16(row.weights[j]), value, sum);
    }
    store_part16(y + d, sum, lanes);
  }
}

template <typename T>
void activate(const ActivateRow& row) {
  for (int64_t f = 0; f < row.width; f += 32) {
    T* h = static_cast<T*>(row.h) + f / 32 * row.step;
    for (int64_t i = 0; i < 32; i += 16) {
      const int64_t lanes = std::clamp(row.width - f - i, int64_t{0}, int64_t{16});
      const F32x16 gate = load_part16(row.gate + f + i, lanes);
      const F32x16 up = load_part16(row.up + f + i, lanes);
      store16(h + i, silu_mul16(gate, up));  // lanes that don't exist are 0 * 0
      if (row.saved_gate == nullptr) continue;
      store_part16(row.saved_gate + f + i, gate, lanes);
      store_part16(row.saved_up + f + i, up, lanes);
    }
  }
}

template <typename T>
void activation_backward(const ActivationRow& row) {
  auto* h = static_cast<T*>(row.h);
  silu_mul_row({.gate_up = row.gate_up, .width = row.width, .y = h, .out_dtype = row.dtype});
  F32x16 dot = zero16();
  const F32x16 weight = set16(row.weight);
  for (int64_t f = 0; f < row.width; f += 16) {
    const int64_t lanes = row.width - f;
    const F32x16 value = load_part16(h + f, lanes);
    const F32x16 g = load_part16(row.g + f, lanes);
    dot = fma16(value, g, dot);
    store_part16(h + f, mul16(weight, value), lanes);
    store_part16(row.g + f, mul16(weight, g), lanes);
  }
  *row.dweight = sum_lanes16(dot);
  silu_mul_backward_row({.gate_up = row.gate_up,
                         .width = row.width,
                         .dy = row.g,
                         .dgate_up = row.dgate_up,
                         .out_dtype = row.dtype});
}

}  // namespace

void combine_row(const CombineRow& row) {
  row.dtype == DType::kBFloat16 ? combine<BFloat16>(row) : combine<float>(row);
}

void activate_row(const ActivateRow& row) {
  row.dtype == DType::kBFloat16 ? activate<BFloat16>(row) : activate<float>(row);
}

void activate_tile(const ActivateTile& tile) {
  for (int64_t i = 0; i < tile.count; ++i) {
    store16(tile.h + tile.step * i,
            silu_mul16(load16(tile.gate + 16 * i), load16(tile.up + 16 * i)));
  }
}

void activation_backward_row(const ActivationRow& row) {
  row.dtype == DType::kBFloat16 ? activation_backward<BFloat16>(row)
                                : activation_backward<float>(row);
}

}  // namespace mole::kernels::MOLE_ISA
