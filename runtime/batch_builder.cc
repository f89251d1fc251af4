#include "runtime/batch_builder.h"

#include <algorithm>

#include "base/check.h"

namespace mole::runtime {

using model::kBlockTokens;

BatchBuilder::BatchBuilder(const BatchBuilderOptions& options) : options_(options) {
  token_ids_.reserve(options.max_tokens);
  positions_.reserve(options.max_tokens);
  sequence_starts_.reserve(static_cast<size_t>(options.max_sequences) + 1);
  forms_.reserve(options.max_sequences);
  block_tables_.reserve(static_cast<size_t>(options.max_sequences) *
                        static_cast<size_t>(options.max_blocks_per_sequence));
  logit_rows_.reserve(options.max_logit_rows);
}

model::StepInput BatchBuilder::build(const StepPlan& plan) {
  MOLE_CHECK_LE(plan.num_tokens, options_.max_tokens);
  MOLE_CHECK_LE(static_cast<int32_t>(plan.chunks.size()), options_.max_sequences);
  MOLE_CHECK_LE(plan.num_logit_rows, options_.max_logit_rows);
  token_ids_.clear();
  positions_.clear();
  sequence_starts_.assign(1, 0);
  forms_.clear();
  logit_rows_.clear();
  size_t width = 1;  // as narrow as the longest sequence of this step allows
  for (const PlannedChunk& chunk : plan.chunks) {
    width = std::max(width, chunk.sequence->blocks.size());
  }
  MOLE_CHECK_LE(static_cast<int32_t>(width), options_.max_blocks_per_sequence);
  block_tables_.assign(plan.chunks.size() * width, -1);
  for (size_t i = 0; i < plan.chunks.size(); ++i) {
    const PlannedChunk& chunk = plan.chunks[i];
    add_tokens(chunk);
    forms_.push_back(chunk.form);
    std::transform(chunk.sequence->blocks.begin(), chunk.sequence->blocks.end(),
                   block_tables_.begin() + static_cast<ptrdiff_t>(i * width),
                   [](BlockId block) { return block.value; });
  }
  return {
      .token_ids = token_ids_,
      .positions = positions_,
      .sequence_starts = sequence_starts_,
      .forms = forms_,
      .block_tables = block_tables_,
      .blocks_per_sequence = static_cast<int32_t>(width),
      .logit_rows = logit_rows_,
      .wave = {plan.wave.num_chunks, plan.wave.begin_layer, plan.wave.end_layer, plan.wave.places}};
}

void BatchBuilder::add_tokens(const PlannedChunk& chunk) {
  const int32_t first_row = static_cast<int32_t>(token_ids_.size());
  const auto begin = chunk.sequence->tokens.begin() + chunk.first;
  token_ids_.insert(token_ids_.end(), begin, begin + chunk.num_own());
  const auto drafts = chunk.sequence->drafts.begin();
  token_ids_.insert(token_ids_.end(), drafts, drafts + chunk.num_drafts);
  for (int32_t i = 0; i < chunk.count; ++i) positions_.push_back(chunk.first + i);
  sequence_starts_.push_back(first_row + chunk.count);
  for (int32_t i = 0; i < chunk.num_logits; ++i) {
    logit_rows_.push_back(first_row + chunk.logits_first - chunk.first + i);
  }
}

}  // namespace mole::runtime
