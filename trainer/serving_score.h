// Log-probabilities as mole-server computes them, from the served form of a model: what quantised
// weights cost is measured with it.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/kv_cache.h"
#include "model/model.h"
#include "model/trainable.h"

namespace mole::trainer {

/// Scores whole sequences as prompts. Thread: one caller.
class ServingScorer {
 public:
  /// `model` must outlive it. `tokens_max` of one sequence.
  ServingScorer(model::Model* model, int64_t tokens_max);

  /// As Trainable::score with every sequence a prompt: log p of each target, 0 where it is -1.
  /// Errors: the model's; kInvalidArgument for a sequence longer than tokens_max.
  Status score(const model::SequenceBatch& batch, std::span<float> log_probs);

 private:
  Status score_sequence(std::span<const TokenId> ids, std::span<const TokenId> targets,
                        std::span<float> log_probs);
  Status score_rows(std::span<const TokenId> ids, int32_t first, std::span<const TokenId> targets,
                    std::span<float> log_probs);

  model::Model& model_;
  int64_t tokens_max_;
  model::KvCache cache_;
  std::vector<int32_t> table_;  // the cache's blocks in order
};

}  // namespace mole::trainer
