#include "model/layers/step_context.h"

#include "base/check.h"
#include "kernels/kv_entry/kv_entry.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

namespace {

int32_t blocks_of(const Segment& segment) {
  return (segment.context() + kBlockTokens - 1) / kBlockTokens;
}

}  // namespace

void StepContext::clear() {
  positions.reset();
  expanded.clear();
  absorbed.clear();
  cache = nullptr;
  starts.clear();
  balance_scale = 0;
  slots.clear();
  absorbed_rows.clear();
  absorbed_positions.clear();
  expert_loads.clear();
  balance.reset();
  balance_sum = 0;
}

void StepContext::add(const Segment& segment) {
  MOLE_CHECK_GT(segment.num_rows, 0);
  const bool is_absorbed = segment.form == AttentionForm::kAbsorbed;
  (is_absorbed ? absorbed : expanded).push_back(segment);
  for (int32_t i = 0; i < segment.num_rows; ++i) {
    const int32_t position = segment.first_position + i;
    if (is_absorbed) {
      absorbed_rows.push_back(segment.first_row + i);
      absorbed_positions.push_back(position);
    }
    if (cache != nullptr) {
      const int64_t block = segment.blocks[static_cast<size_t>(position / kBlockTokens)];
      slots.push_back(block * kBlockTokens + position % kBlockTokens);
    }
  }
}

void write_entries(const StepContext& step, int32_t layer, const at::Tensor& entries) {
  if (step.cache == nullptr) return;
  const KvCacheShape& shape = step.cache->shape();
  MOLE_CHECK_EQ(entries.size(1), shape.entry_elements);
  MOLE_CHECK_EQ(entries.size(0), static_cast<int64_t>(step.slots.size()));
  kernels::kv_write({.entry = entry_shape(step, entries, shape.rope_elements),
                     .rows = entries.data_ptr(),
                     .num_rows = entries.size(0),
                     .row_stride = entries.stride(0),
                     .slots = step.slots.data(),
                     .pages = step.cache->layer(layer)},
                    kernels::team());
}

kernels::KvEntryShape entry_shape(const StepContext& step, const at::Tensor& entries,
                                  int32_t rope_elements) {
  using kernels::KvFormat;
  return {.format = step.cache != nullptr ? step.cache->shape().format : KvFormat::kModel,
          .dtype = kernels::dtype_of(entries),
          .latent = entries.size(1) - rope_elements,
          .rope = rope_elements};
}

int64_t entry_stride(const StepContext& step, const at::Tensor& entries) {
  if (step.cache != nullptr) return step.cache->shape().entry_bytes();
  return entries.stride(0) * static_cast<int64_t>(entries.element_size());
}

const void* const* append_blocks(const StepContext& step, const Segment& segment, int32_t layer,
                                 const at::Tensor& entries, int64_t offset,
                                 std::vector<const void*>* blocks) {
  const size_t first = blocks->size(), count = static_cast<size_t>(blocks_of(segment));
  MOLE_CHECK_LE(first + count, blocks->capacity());
  for (size_t i = 0; i < count; ++i) {
    const std::byte* block =
        step.cache != nullptr
            ? step.cache->block(layer, segment.blocks[i])
            : kernels::element(entries,
                               segment.sequence_row + static_cast<int64_t>(i) * kBlockTokens, 0);
    blocks->push_back(block + offset);
  }
  return blocks->data() + first;
}

size_t num_blocks(std::span<const Segment> segments) {
  size_t sum = 0;
  for (const Segment& segment : segments) sum += static_cast<size_t>(blocks_of(segment));
  return sum;
}

}  // namespace mole::model
