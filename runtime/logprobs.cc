#include "runtime/logprobs.h"

#include <cmath>

#include "kernels/cpu/thread_team.h"
#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/sampling/sampling.h"
#include "runtime/select_largest.h"

namespace mole::runtime {

LogprobScorer::LogprobScorer() : team_(std::make_unique<kernels::ThreadTeam>(1)) {}
LogprobScorer::~LogprobScorer() = default;

StatusOr<TokenLogprobs> LogprobScorer::score(std::span<const float> logits, TokenId token,
                                             int32_t top) {
  const auto vocab = static_cast<int64_t>(logits.size());
  double logsumexp = 0;
  kernels::row_logsumexp(logits.data(), 1, vocab, vocab, &logsumexp, *team_);
  maxima_.resize(static_cast<size_t>(kernels::vocab_blocks(vocab)));
  if (!kernels::block_maxima(logits.data(), vocab, maxima_.data()) || !std::isfinite(logsumexp)) {
    return absl::InternalError("the model's logits hold a NaN or an infinity");
  }
  TokenLogprobs result;
  result.logprob = kernels::log_probability(logits[static_cast<size_t>(token)], logsumexp);
  if (top <= 0) return result;
  select_largest(logits, maxima_, static_cast<size_t>(top), &largest_);
  result.top.reserve(largest_.size());
  for (const TokenId id : largest_) {
    result.top.emplace_back(id,
                            kernels::log_probability(logits[static_cast<size_t>(id)], logsumexp));
  }
  return result;
}

}  // namespace mole::runtime
