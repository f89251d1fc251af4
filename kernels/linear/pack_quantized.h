// One panel of a quantised weight, for pack_quantized and its instruction sets. Plain types only.
#pragma once

#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {

struct QuantizedPanel {
  WeightFormat format = WeightFormat::kInt8;
  int64_t k = 0;
  const std::byte* codes[kPanel] = {};   // a row each; null past the last
  const std::byte* scales[kPanel] = {};  // of that row, float32, any alignment
};

namespace avx2 {
void pack_quantized_panel(const QuantizedPanel& panel, std::byte* out);
}
namespace avx512 {
void pack_quantized_panel(const QuantizedPanel& panel, std::byte* out);
}

}  // namespace mole::kernels
