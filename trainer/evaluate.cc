#include "trainer/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

namespace mole::trainer {
namespace {

double per(double sum, int64_t count) { return count > 0 ? sum / static_cast<double>(count) : 0.0; }

}  // namespace

double EvalResult::loss() const { return per(negative_log_likelihood, tokens); }
double EvalResult::perplexity() const { return std::exp(loss()); }
double EvalResult::byte_perplexity() const { return std::exp(per(negative_log_likelihood, bytes)); }
double EvalResult::bits_per_byte() const {
  return per(negative_log_likelihood, bytes) / std::numbers::ln2;
}

Json EvalResult::to_json() const {
  return {{"tokens", tokens},
          {"bytes", bytes},
          {"loss", loss()},
          {"perplexity", perplexity()},
          {"byte_perplexity", byte_perplexity()},
          {"bits_per_byte", bits_per_byte()}};
}

Evaluator::Evaluator(model::Trainable& model, const text::Tokenizer& tokenizer, TokenId bos,
                     int64_t batch_sequences)
    : Evaluator([&model](const model::SequenceBatch& batch,
                         std::span<float> log_probs) { return model.score(batch, {}, log_probs); },
                tokenizer, bos, batch_sequences) {}

Evaluator::Evaluator(Score score, const text::Tokenizer& tokenizer, TokenId bos,
                     int64_t batch_sequences)
    : score_(std::move(score)),
      tokenizer_(tokenizer),
      bos_(bos),
      batch_sequences_(batch_sequences) {}

Status Evaluator::add_window(std::span<const TokenId> window) {
  batch_.add_after_bos(bos_, window);
  return batch_.num_sequences() < batch_sequences_ ? absl::OkStatus() : score_batch();
}

Status Evaluator::add_tokens(std::span<const TokenId> ids, int64_t window_tokens) {
  while (!ids.empty()) {
    const size_t size = std::min(ids.size(), static_cast<size_t>(window_tokens));
    MOLE_RETURN_IF_ERROR(add_window(ids.first(size)));
    ids = ids.subspan(size);
  }
  return absl::OkStatus();
}

Status Evaluator::score_batch() {
  if (batch_.num_sequences() == 0) return absl::OkStatus();
  std::vector<float> log_probs(static_cast<size_t>(batch_.num_tokens()));
  MOLE_RETURN_IF_ERROR(score_(batch_.view(), log_probs));
  for (size_t row = 0; row < log_probs.size(); ++row) {
    const TokenId target = batch_.targets()[row];
    if (target < 0) continue;
    result_.negative_log_likelihood -= static_cast<double>(log_probs[row]);
    ++result_.tokens;
    if (!tokenizer_.is_special(target)) {
      result_.bytes += static_cast<int64_t>(tokenizer_.token_bytes(target).size());
    }
  }
  for (int64_t s = 0; listener_ && s < batch_.num_sequences(); ++s) {
    const auto targets = batch_.view(s, s + 1).targets;
    const auto first = static_cast<size_t>(targets.data() - batch_.targets().data());
    listener_(targets, std::span(log_probs).subspan(first, targets.size()));
  }
  batch_.clear();
  return absl::OkStatus();
}

StatusOr<EvalResult> Evaluator::finish() {
  MOLE_RETURN_IF_ERROR(score_batch());
  EvalResult out = result_;
  result_ = {};
  return out;
}

}  // namespace mole::trainer
