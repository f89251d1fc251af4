#include "trainer/serving_score.h"

#include <algorithm>
#include <numeric>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/torch/team.h"

namespace mole::trainer {
namespace {

constexpr int64_t kRowsOfLogits = 128;  // at once: a large vocabulary's logits take memory

int64_t blocks(int64_t tokens) { return (tokens + model::kBlockTokens - 1) / model::kBlockTokens; }

}  // namespace

ServingScorer::ServingScorer(model::Model* model, int64_t tokens_max)
    : model_(*model),
      tokens_max_(tokens_max),
      cache_({.num_layers = model->info().num_layers,
              .num_blocks = blocks(tokens_max),
              .entry_elements = model->info().kv_entry_elements,
              .dtype = model->info().dtype}),
      table_(static_cast<size_t>(blocks(tokens_max))) {
  std::iota(table_.begin(), table_.end(), 0);
}

Status ServingScorer::score(const model::SequenceBatch& batch, std::span<float> log_probs) {
  for (size_t s = 0; s + 1 < batch.sequence_starts.size(); ++s) {
    const auto first = static_cast<size_t>(batch.sequence_starts[s]);
    const auto count = static_cast<size_t>(batch.sequence_starts[s + 1]) - first;
    MOLE_RETURN_IF_ERROR(score_sequence(batch.token_ids.subspan(first, count),
                                        batch.targets.subspan(first, count),
                                        log_probs.subspan(first, count)));
  }
  return absl::OkStatus();
}

Status ServingScorer::score_sequence(std::span<const TokenId> ids, std::span<const TokenId> targets,
                                     std::span<float> log_probs) {
  if (static_cast<int64_t>(ids.size()) > tokens_max_) {
    return absl::InvalidArgumentError("a window has " + std::to_string(ids.size()) +
                                      " tokens; at most " + std::to_string(tokens_max_) +
                                      " are accepted");
  }
  for (size_t first = 0; first < ids.size(); first += kRowsOfLogits) {
    const size_t count = std::min<size_t>(kRowsOfLogits, ids.size() - first);
    MOLE_RETURN_IF_ERROR(score_rows(ids.subspan(first, count), static_cast<int32_t>(first),
                                    targets.subspan(first, count),
                                    log_probs.subspan(first, count)));
  }
  return absl::OkStatus();
}

Status ServingScorer::score_rows(std::span<const TokenId> ids, int32_t first,
                                 std::span<const TokenId> targets, std::span<float> log_probs) {
  std::vector<int32_t> positions(ids.size()), rows(ids.size());
  std::iota(positions.begin(), positions.end(), first);
  std::iota(rows.begin(), rows.end(), 0);
  const int32_t starts[] = {0, static_cast<int32_t>(ids.size())};
  const model::AttentionForm forms[] = {model::AttentionForm::kExpanded};
  model::StepOutput output;
  MOLE_RETURN_IF_ERROR(model_.forward({.token_ids = ids,
                                       .positions = positions,
                                       .sequence_starts = starts,
                                       .forms = forms,
                                       .block_tables = table_,
                                       .blocks_per_sequence = static_cast<int32_t>(table_.size()),
                                       .logit_rows = rows},
                                      cache_, &output));
  const int64_t vocab = model_.info().vocab_size;
  for (size_t row = 0; row < ids.size(); ++row) {
    log_probs[row] = 0;
    if (targets[row] < 0) continue;
    const float* logits = output.logits.data() + static_cast<int64_t>(row) * vocab;
    double logsumexp = 0;
    kernels::row_logsumexp(logits, 1, vocab, vocab, &logsumexp, kernels::team());
    log_probs[row] = kernels::log_probability(logits[targets[row]], logsumexp);
  }
  return absl::OkStatus();
}

}  // namespace mole::trainer
