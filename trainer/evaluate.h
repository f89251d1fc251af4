// Perplexity of a model on text: each token predicted once, in windows that begin with BOS. The
// log-probabilities are those of Trainable::score, the bits that the server reports.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "model/trainable.h"
#include "text/tokenizer.h"
#include "trainer/data/batch.h"

namespace mole::trainer {

struct EvalResult {
  double negative_log_likelihood = 0;  // nats, summed over the counted tokens
  int64_t tokens = 0;                  // counted
  int64_t bytes = 0;                   // that the counted tokens spell; EOS spells none

  double loss() const;             // nats a token
  double perplexity() const;       // a token
  double byte_perplexity() const;  // a byte
  double bits_per_byte() const;
  Json to_json() const;
};

/// Scores windows in groups of `batch_sequences`.
class Evaluator {
 public:
  Evaluator(model::Trainable& model, const text::Tokenizer& tokenizer, TokenId bos,
            int64_t batch_sequences);
  /// The same with another way to score: log p of each target, 0 where it is -1.
  using Score = std::function<Status(const model::SequenceBatch&, std::span<float>)>;
  Evaluator(Score score, const text::Tokenizer& tokenizer, TokenId bos, int64_t batch_sequences);

  /// Called with the ids and log-probabilities of each window, in order; optional.
  using Listener = std::function<void(std::span<const TokenId> targets, std::span<const float>)>;
  void set_listener(Listener listener) { listener_ = std::move(listener); }

  /// Errors: kInvalidArgument (an id the model doesn't have, a window longer than its context).
  Status add_window(std::span<const TokenId> window);
  /// Cuts `ids` into windows of `window_tokens`.
  Status add_tokens(std::span<const TokenId> ids, int64_t window_tokens);
  StatusOr<EvalResult> finish();

 private:
  Status score_batch();
  Score score_;
  const text::Tokenizer& tokenizer_;
  TokenId bos_;
  int64_t batch_sequences_;
  Listener listener_;
  TokenBatch batch_;
  EvalResult result_;
};

}  // namespace mole::trainer
