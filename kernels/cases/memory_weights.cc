#include "kernels/cases/memory_weights.h"

#include "base/dtype.h"
#include "kernels/linear/linear_impl.h"

namespace mole::kernels {

void fill_weight(PackedWeight& weight, int64_t n, int64_t k, ThreadTeam& team) {
  auto* data = reinterpret_cast<uint16_t*>(weight.reshape(DType::kBFloat16, n, k));
  auto fill = [&](int64_t begin, int64_t end) {
    // Signs and magnitudes of 2^-7 to 2^-6 from a counter's upper bits (Knuth's multiplier).
    for (int64_t i = begin; i < end; ++i) {
      const uint32_t bits = static_cast<uint32_t>(i) * 2654435761u;
      data[i] = static_cast<uint16_t>((bits >> 16 & 0x8000u) | 0x3c00u | (bits >> 17 & 0x7fu));
    }
  };
  team.parallel_for(weight.bytes() / 2, 1024, fill);
}

std::shared_ptr<const std::vector<PackedWeight>> memory_weights(int64_t n, int64_t k,
                                                                ThreadTeam& team) {
  static std::shared_ptr<std::vector<PackedWeight>> kept;
  if (kept != nullptr && kept->front().n() == n && kept->front().k() == k) return kept;
  kept = std::make_shared<std::vector<PackedWeight>>();
  const int64_t bytes = ceil_div(n, kPanel) * panel_elements(DType::kBFloat16, k) * 2;
  kept->resize(static_cast<std::size_t>(ceil_div(kMemoryWeightBytes, bytes)));
  for (PackedWeight& weight : *kept) fill_weight(weight, n, k, team);
  return kept;
}

}  // namespace mole::kernels
