#include "model/layers/step_context.h"

#include <cstring>

#include "base/check.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

void write_entries(const StepContext& step, int32_t layer, const at::Tensor& entries) {
  if (step.cache == nullptr) return;
  const KvCacheShape& shape = step.cache->shape();
  const int64_t entry_bytes = shape.entry_elements * dtype_bytes(shape.dtype);
  MOLE_CHECK_EQ(entries.size(1), shape.entry_elements);
  std::byte* pages = step.cache->layer(layer);
  for (const Segment& segment : step.segments) {
    for (int32_t i = 0; i < segment.num_rows; ++i) {
      const int32_t position = segment.first_position + i;
      const int32_t block = segment.blocks[static_cast<size_t>(position / kBlockTokens)];
      std::byte* slot =
          pages + block * shape.block_bytes() + (position % kBlockTokens) * entry_bytes;
      std::memcpy(slot, kernels::element(entries, segment.first_row + i, 0),
                  static_cast<size_t>(entry_bytes));
    }
  }
}

ContextBlocks context_blocks(const StepContext& step, const Segment& segment, int32_t layer,
                             const at::Tensor& entries) {
  ContextBlocks found;
  found.row_stride = step.cache == nullptr ? entries.stride(0) : step.cache->shape().entry_elements;
  for (int32_t position = 0; position < segment.context(); position += kBlockTokens) {
    if (step.cache == nullptr) {
      found.first_rows.push_back(kernels::element(entries, segment.sequence_row + position, 0));
    } else {
      const int32_t block = segment.blocks[static_cast<size_t>(position / kBlockTokens)];
      found.first_rows.push_back(step.cache->layer(layer) +
                                 block * step.cache->shape().block_bytes());
    }
  }
  return found;
}

}  // namespace mole::model
