#include "kernels/cpu/exp.h"
#include "kernels/silu_mul/silu_lanes.h"
#include "kernels/silu_mul/silu_mul_impl.h"

namespace mole::kernels::MOLE_ISA {
namespace {

/// sigmoid(z) = 1 / (1 + exp(-z)).
F32x16 sigmoid16(F32x16 z) {
  const F32x16 one = set16(1.0f);
  return div16(one, add16(one, exp16(sub16(zero16(), z))));
}

template <typename In, typename Out>
void forward(const SiluMulRow& row) {
  const auto* gate = static_cast<const In*>(row.gate_up);
  const In* up = gate + row.width;
  auto* y = static_cast<Out*>(row.y);
  for (int64_t i = 0; i < row.width; i += 16) {
    const int64_t lanes = row.width - i;
    const F32x16 z = load_part16(gate + i, lanes);
    store_part16(y + i, silu_mul16(z, load_part16(up + i, lanes)), lanes);
  }
}

/// With s = sigmoid(gate): dgate = dy up s (1 + gate (1 - s)), dup = dy gate s.
template <typename In, typename Out>
void backward(const SiluMulRow& row) {
  const auto* gate = static_cast<const In*>(row.gate_up);
  const In* up = gate + row.width;
  auto* dgate = static_cast<Out*>(row.dgate_up);
  Out* dup = dgate + row.width;
  const F32x16 one = set16(1.0f);
  for (int64_t i = 0; i < row.width; i += 16) {
    const int64_t lanes = row.width - i;
    const F32x16 z = load_part16(gate + i, lanes);
    const F32x16 s = sigmoid16(z);
    const F32x16 dy = load_part16(row.dy + i, lanes);
    const F32x16 slope = mul16(s, fma16(z, sub16(one, s), one));
    const F32x16 dy_up = mul16(dy, load_part16(up + i, lanes));
    store_part16(dup + i, mul16(dy, mul16(z, s)), lanes);
    store_part16(dgate + i, mul16(dy_up, slope), lanes);
  }
}

template <typename In>
void forward_in(const SiluMulRow& row) {
  row.out_dtype == DType::kBFloat16 ? forward<In, BFloat16>(row) : forward<In, float>(row);
}
template <typename In>
void backward_in(const SiluMulRow& row) {
  row.out_dtype == DType::kBFloat16 ? backward<In, BFloat16>(row) : backward<In, float>(row);
}

}  // namespace

void silu_mul_row(const SiluMulRow& row) {
  row.in_dtype == DType::kBFloat16 ? forward_in<BFloat16>(row) : forward_in<float>(row);
}

void silu_mul_backward_row(const SiluMulRow& row) {
  row.in_dtype == DType::kBFloat16 ? backward_in<BFloat16>(row) : backward_in<float>(row);
}

}  // namespace mole::kernels::MOLE_ISA
