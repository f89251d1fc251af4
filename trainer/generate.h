// Continues a prompt with the serving face of a model: the prompt in one expanded step, then token
// by token in absorbed form over a KV cache of its own. For looking at a model; serving is the
// server's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "model/model.h"

namespace mole::trainer {

struct SamplingOptions {
  int64_t max_tokens = 128;
  double temperature = 0.8;  // 0 = greedy
  double top_p = 1.0;        // the smallest set of tokens whose probability reaches it
  int64_t top_k = 0;         // 0 = all
  uint64_t seed = 0;
};

/// The next token of `logits`: ties go to the lower id; the draw is a function of (seed, position).
/// Order of the filters: temperature, top_k, top_p.
TokenId sample(std::span<const float> logits, const SamplingOptions& options, int64_t position);

/// Calls `use(token)` for each new token, up to max_tokens, EOS (not passed on) or the end of the
/// context. Errors: kInvalidArgument (empty or too long prompt), kInternal.
Status generate(model::Model& model, std::vector<TokenId> prompt, const SamplingOptions& options,
                const std::function<void(TokenId)>& use);

}  // namespace mole::trainer
