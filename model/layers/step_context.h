// One forward's sequences as the layers see them: rows, positions, where their keys lie.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "model/kv_cache.h"
#include "model/model.h"

namespace mole::model {

/// Consecutive rows of one sequence that are computed in one form.
struct Segment {
  int32_t first_row = 0;
  int32_t num_rows = 0;
  int32_t first_position = 0;
  AttentionForm form = AttentionForm::kExpanded;
  std::span<const int32_t> blocks = {};  // pages of positions 0, 64, …; with a cache
  int32_t sequence_row = 0;              // row of the sequence's position 0; without a cache

  int32_t context() const { return first_position + num_rows; }
};

struct StepContext {
  at::Tensor positions;  // [T] int32
  std::vector<Segment> segments;
  KvCache* cache = nullptr;     // null: whole sequences, whose keys are in the batch itself
  std::vector<int32_t> starts;  // [S+1] rows of whole sequences; without a cache
  bool any_absorbed = false;
  double balance_scale = 0;  // of the sequence-wise balance loss; 0 = none

  // What MoE layers report, one entry a layer in order.
  std::vector<std::vector<int64_t>> expert_loads;  // tokens routed to each expert
  at::Tensor balance;                              // 0-dim sum over layers, scaled; or undefined
  double balance_sum = 0;                          // the same, not scaled
};

/// A segment's keys: pointers to the first row of each 64 positions, rows `row_stride` elements
/// apart.
struct ContextBlocks {
  std::vector<const void*> first_rows;
  int64_t row_stride = 0;
};

/// Writes the rows of entries [T, entry_elements] to `layer`'s pages. No-op without a cache.
void write_entries(const StepContext& step, int32_t layer, const at::Tensor& entries);
/// Where a segment's entries [0, context) lie: in pages, or in `entries` itself without a cache.
ContextBlocks context_blocks(const StepContext& step, const Segment& segment, int32_t layer,
                             const at::Tensor& entries);

}  // namespace mole::model
