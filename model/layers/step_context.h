// One forward's sequences as the layers see them: rows, positions, where their keys lie.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/linear/linear.h"
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

/// Argument lists that a layer fills and a kernel reads at once; they live here so that a warm step
/// takes no memory. Whoever uses one clears it first, and reserves before pointers into it are
/// taken.
struct StepScratch {
  std::vector<const void*> keys, values, shared;  // first rows of blocks of 64 positions
  std::vector<kernels::AttentionArgs> attention;
  std::vector<kernels::KvReadArgs> reads;
  std::vector<kernels::LinearArgs> products;
};

struct StepContext {
  /// Makes it empty, keeping its memory.
  void clear();
  /// Adds a segment with at least one row; rows ascend from segment to segment. Pages as of
  /// `cache`.
  void add(const Segment& segment);

  at::Tensor positions;                     // [T] int32
  std::vector<Segment> expanded, absorbed;  // by form, in order of rows
  KvCache* cache = nullptr;     // null: whole sequences, whose keys are in the batch itself
  std::vector<int32_t> starts;  // [S+1] rows of whole sequences; without a cache
  double balance_scale = 0;     // of the sequence-wise balance loss; 0 = none

  std::vector<int64_t> slots;  // [T] where each row's entry goes: block * 64 + place; with a cache
  std::vector<int32_t> absorbed_rows;       // rows of the absorbed segments, ascending
  std::vector<int32_t> absorbed_positions;  // and their positions

  /// Whole sequences in one form: what the trainer differentiates.
  bool whole_sequences() const { return cache == nullptr && absorbed.empty(); }

  // What MoE layers report.
  std::vector<int64_t> expert_loads;  // [MoE layers so far, E] tokens routed to each expert
  at::Tensor balance;                 // 0-dim sum over layers, scaled; or undefined
  double balance_sum = 0;             // the same, not scaled

  StepScratch scratch;
};

/// Writes the rows of entries [T, entry_elements] to `layer`'s pages. No-op without a cache.
void write_entries(const StepContext& step, int32_t layer, const at::Tensor& entries);

/// How entries lie in memory, in pages or in a matrix of rows.
kernels::KvEntryShape entry_shape(const StepContext& step, const at::Tensor& entries,
                                  int32_t rope_elements);
/// Bytes from one entry to the next of a block.
int64_t entry_stride(const StepContext& step, const at::Tensor& entries);

/// Appends where a segment's entries of positions 0, 64, … of [0, context) lie: in pages, or in
/// `entries` itself without a cache. `offset` bytes are added to each pointer. Returns the first
/// pointer's address; `blocks` must have room.
const void* const* append_blocks(const StepContext& step, const Segment& segment, int32_t layer,
                                 const at::Tensor& entries, int64_t offset,
                                 std::vector<const void*>* blocks);
/// Blocks of 64 positions in all segments together.
size_t num_blocks(std::span<const Segment> segments);

}  // namespace mole::model
