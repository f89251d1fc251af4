#include "trainer/expert_balance.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace mole::trainer {

void add_loads(const ExpertLoads& more, ExpertLoads* loads) {
  if (loads->empty()) {
    *loads = more;
    return;
  }
  MOLE_CHECK_EQ(loads->size(), more.size());
  for (size_t layer = 0; layer < more.size(); ++layer) {
    for (size_t e = 0; e < more[layer].size(); ++e) (*loads)[layer][e] += more[layer][e];
  }
}

void update_biases(const ExpertLoads& loads, double speed,
                   const std::vector<model::NamedTensor>& biases) {
  if (biases.empty() || speed == 0) return;
  MOLE_CHECK_EQ(biases.size(), loads.size());
  for (size_t layer = 0; layer < loads.size(); ++layer) {
    const std::vector<int64_t>& load = loads[layer];
    MOLE_CHECK_EQ(biases[layer].tensor.numel(), static_cast<int64_t>(load.size()));
    float* bias = biases[layer].tensor.data_ptr<float>();
    const int64_t total = std::accumulate(load.begin(), load.end(), int64_t{0});
    for (size_t e = 0; e < load.size(); ++e) {
      // mean > load without a division: total > load * experts, exact in integers.
      const int64_t scaled = load[e] * static_cast<int64_t>(load.size());
      const int sign = (total > scaled) - (total < scaled);
      bias[e] += static_cast<float>(speed * sign);
    }
  }
}

LoadSummary summarize_load(std::span<const int64_t> load) {
  const auto total = static_cast<double>(std::accumulate(load.begin(), load.end(), int64_t{0}));
  if (load.empty() || total == 0) return {};
  const auto [min, max] = std::minmax_element(load.begin(), load.end());
  const auto experts = static_cast<double>(load.size());
  LoadSummary out;
  out.min_share = static_cast<double>(*min) / total;
  out.max_share = static_cast<double>(*max) / total;
  out.max_violation = out.max_share * experts - 1.0;
  for (int64_t tokens : load) {
    const double share = static_cast<double>(tokens) / total;
    if (tokens > 0) out.entropy -= share * std::log(share);
  }
  out.entropy = load.size() > 1 ? out.entropy / std::log(experts) : 1.0;
  return out;
}

LoadSummary summarize_loads(const ExpertLoads& loads) {
  LoadSummary worst;
  for (size_t layer = 0; layer < loads.size(); ++layer) {
    const LoadSummary one = summarize_load(loads[layer]);
    worst.min_share = layer == 0 ? one.min_share : std::min(worst.min_share, one.min_share);
    worst.max_share = std::max(worst.max_share, one.max_share);
    worst.entropy = layer == 0 ? one.entropy : std::min(worst.entropy, one.entropy);
    worst.max_violation = std::max(worst.max_violation, one.max_violation);
  }
  return worst;
}

}  // namespace mole::trainer
