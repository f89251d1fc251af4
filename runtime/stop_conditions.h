// When a sequence ends. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "base/ids.h"
#include "runtime/request.h"

namespace mole::runtime {

inline bool contains(std::span<const TokenId> ids, TokenId token) {
  return std::find(ids.begin(), ids.end(), token) != ids.end();
}

/// Whether `token` ends a sequence by itself: an EOS token of the model, or one of the request's.
inline bool is_stop_token(TokenId token, const SamplingParams& sampling,
                          std::span<const TokenId> eos_token_ids) {
  return (!sampling.ignore_eos && contains(eos_token_ids, token)) ||
         contains(sampling.stop_token_ids, token);
}

/// kStop, kLength, or kNone to go on, after `token` was generated as the `num_generated`-th (from
/// 1).
inline FinishReason finish_reason_after(TokenId token, int32_t num_generated,
                                        const SamplingParams& sampling,
                                        std::span<const TokenId> eos_token_ids) {
  if (is_stop_token(token, sampling, eos_token_ids)) return FinishReason::kStop;
  return num_generated >= sampling.max_tokens ? FinishReason::kLength : FinishReason::kNone;
}

}  // namespace mole::runtime
