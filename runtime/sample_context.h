// What a sequence's next token is drawn with: the request's parameters, its seed and the token's
// position. The same for a token that is sampled alone and for one that was drafted before.
#pragma once

#include <span>

#include "runtime/sampler.h"
#include "runtime/sequence.h"

namespace mole::runtime {

/// For the token `ahead` places behind the sequence's next one. Points into the sequence and its
/// request, and keeps `eos_token_ids`.
SampleContext sample_context(const Sequence& sequence, std::span<const TokenId> eos_token_ids,
                             int32_t ahead = 0);

}  // namespace mole::runtime
