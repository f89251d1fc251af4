// Keeping experts equally busy without an auxiliary gradient: after each optimizer step every
// expert's selection bias moves by a fixed step towards the mean load of its layer. Source:
// DeepSeek-V3 (arXiv 2412.19437, section 2.1.2), arXiv 2408.15664. Loads are those of the whole
// global batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "model/trainable.h"

namespace mole::trainer {

/// Tokens routed to each expert: [MoE layers][experts].
using ExpertLoads = std::vector<std::vector<int64_t>>;

/// Adds `more` to `loads`, which is empty or of the same shape.
void add_loads(const ExpertLoads& more, ExpertLoads* loads);

/// bias[e] += speed * sign(mean - load[e]) for each layer; equal loads leave it.
/// Shapes: biases [MoE layers] of float32 [E], or empty (a model without such a bias: nothing
/// done).
void update_biases(const ExpertLoads& loads, double speed,
                   const std::vector<model::NamedTensor>& biases);

/// How even one layer's loads are.
struct LoadSummary {
  double min_share = 0, max_share = 0;  // of the layer's routed tokens
  double entropy = 0;                   // of the shares over log(experts): 1 is even, 0 is collapse
  double max_violation = 0;             // max load / mean load - 1 (MaxVio of arXiv 2408.15664)
};
LoadSummary summarize_load(std::span<const int64_t> load);

/// The worst of all layers, field by field.
LoadSummary summarize_loads(const ExpertLoads& loads);

}  // namespace mole::trainer
