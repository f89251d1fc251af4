#include "load_tests/lockstep_batch.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/philox.h"
#include "kernels/cases/ceilings.h"

namespace mole::load_tests {

LockstepBatch::LockstepBatch(model::Model& model, kernels::KvFormat cache_format, int32_t sequences,
                             int32_t context)
    : model_(model),
      sequences_(sequences),
      blocks_per_sequence_((context + model::kBlockTokens - 1) / model::kBlockTokens),
      cache_({.num_layers = model.info().cache_layers(),
              .num_blocks = int64_t{sequences} * blocks_per_sequence_,
              .entry_elements = model.info().kv_entry_elements,
              .dtype = model.info().dtype,
              .format = cache_format,
              .rope_elements = model.info().kv_rope_elements}),
      block_tables_(static_cast<size_t>(sequences * blocks_per_sequence_)) {
  std::iota(block_tables_.begin(), block_tables_.end(), 0);
}

StatusOr<double> LockstepBatch::prefill(int32_t tokens, int32_t chunk) {
  rewind();
  double seconds = 0;
  while (position_ < tokens) {
    MOLE_ASSIGN_OR_RETURN(const double took, step(1, std::min(chunk, tokens - position_),
                                                  model::AttentionForm::kExpanded));
    seconds += took;
  }
  copy_pages();
  return seconds;
}

StatusOr<double> LockstepBatch::decode() {
  return step(sequences_, 1, model::AttentionForm::kAbsorbed);
}

std::vector<float> LockstepBatch::logits_of(int32_t sequence) const {
  const auto vocab = static_cast<size_t>(model_.info().vocab_size);
  const float* row = output_.logits.data() + static_cast<size_t>(sequence) * vocab;
  return {row, row + vocab};
}

StatusOr<double> LockstepBatch::step(int32_t sequences, int32_t tokens, model::AttentionForm form) {
  fill(sequences, tokens);
  forms_.assign(static_cast<size_t>(sequences), form);
  const size_t table = static_cast<size_t>(sequences) * static_cast<size_t>(blocks_per_sequence_);
  const model::StepInput input{.token_ids = ids_,
                               .positions = positions_,
                               .sequence_starts = starts_,
                               .forms = forms_,
                               .block_tables = std::span(block_tables_).first(table),
                               .blocks_per_sequence = blocks_per_sequence_,
                               .logit_rows = rows_};
  const double begin = kernels::seconds_now();
  MOLE_RETURN_IF_ERROR(model_.forward(input, cache_, &output_));
  const double took = kernels::seconds_now() - begin;
  position_ += tokens;
  return took;
}

void LockstepBatch::fill(int32_t sequences, int32_t tokens) {
  ids_.clear();
  positions_.clear();
  rows_.clear();
  starts_.assign(1, 0);
  const auto vocab = static_cast<uint64_t>(model_.info().vocab_size);
  for (int32_t s = 0; s < sequences; ++s) {
    for (int32_t t = 0; t < tokens; ++t) {
      const uint64_t draw = philox4x32(static_cast<uint64_t>(s), position_ + t, 0)[0];
      ids_.push_back(static_cast<TokenId>(draw % vocab));
      positions_.push_back(position_ + t);
    }
    starts_.push_back(static_cast<int32_t>(ids_.size()));
    rows_.push_back(static_cast<int32_t>(ids_.size()) - 1);
  }
}

void LockstepBatch::copy_pages() {
  const auto bytes = static_cast<size_t>(cache_.shape().block_bytes());
  const int32_t used = (position_ + model::kBlockTokens - 1) / model::kBlockTokens;
  for (int32_t layer = 0; layer < cache_.shape().num_layers; ++layer) {
    for (int32_t s = 1; s < sequences_; ++s) {
      for (int32_t i = 0; i < used; ++i) {
        std::memcpy(cache_.block(layer, int64_t{s} * blocks_per_sequence_ + i),
                    cache_.block(layer, i), bytes);
      }
    }
  }
}

}  // namespace mole::load_tests
