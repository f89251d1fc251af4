#include "runtime/sequence.h"

#include <algorithm>
#include <utility>

namespace mole::runtime {
namespace {

bool needs_counts(const SamplingParams& sampling) {
  return sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
         sampling.repetition_penalty != 1;
}

Sequence make_sequence(RequestState* state, int32_t index, const RequestStateOptions& options,
                       KeyMaker& maker) {
  const GenerateRequest& request = state->request;
  const size_t tokens_max =
      request.prompt.size() + static_cast<size_t>(request.sampling.max_tokens);
  Sequence sequence;
  sequence.request = state;
  sequence.index = index;
  sequence.tokens.reserve(tokens_max);
  sequence.tokens = request.prompt;
  sequence.num_prompt = static_cast<int32_t>(request.prompt.size());
  const size_t blocks_max = (tokens_max + model::kBlockTokens - 1) / model::kBlockTokens;
  sequence.blocks.reserve(blocks_max);
  sequence.keys = KeyChain(state->salt, blocks_max);
  // The prompt's keys now, on the submitting thread, and not on the engine's.
  if (state->share_prompt) {
    sequence.keys.first(sequence.num_prompt / model::kBlockTokens, sequence.tokens,
                        sequence.num_prompt, maker);
  }
  sequence.drafts.reserve(static_cast<size_t>(options.draft_tokens_max));
  if (options.draft_tokens_max > 0 && options.ngram.min > 0) {
    sequence.ngrams = NgramIndex(options.ngram, tokens_max);
    sequence.ngrams.extend(sequence.tokens);
  }
  if (needs_counts(request.sampling)) {
    const size_t distinct_max = std::min(tokens_max, static_cast<size_t>(options.vocab_size));
    sequence.counts = TokenCounts(options.vocab_size, request.prompt, distinct_max);
  }
  return sequence;
}

}  // namespace

int32_t Sequence::scored_end() const {
  const bool scored = index == 0 && request->request.sampling.prompt_logprobs >= 0;
  return scored ? num_prompt - 1 : 0;
}

int32_t Sequence::scored_in(int32_t first, int32_t end) const {
  return std::max(0, std::min(end, scored_end()) - std::max(first, num_scored));
}

std::unique_ptr<RequestState> make_request_state(GenerateRequest request,
                                                 const RequestStateOptions& options) {
  auto state = std::make_unique<RequestState>();
  state->request = std::move(request);
  const GenerateRequest& owned = state->request;
  state->seed = owned.sampling.seed ? static_cast<uint64_t>(*owned.sampling.seed) : options.seed;
  state->share_prompt = options.enable_prefix_caching || owned.n > 1;
  // Without prefix caching the n sequences still share their prompt, under a salt of their own.
  state->salt = options.enable_prefix_caching
                    ? root_key("salt " + owned.cache_salt)
                    : root_key("request " + std::to_string(owned.id.value));
  state->submitted_us = options.now_us;
  state->num_live = owned.n;
  state->sequences.reserve(static_cast<size_t>(owned.n));
  KeyMaker maker;
  for (int32_t index = 0; index < owned.n; ++index) {
    state->sequences.push_back(make_sequence(state.get(), index, options, maker));
  }
  // A scored prompt comes out in a few steps: it must fit although nobody could read that fast.
  size_t capacity = options.stream_events_max;
  if (owned.sampling.prompt_logprobs >= 0) capacity += owned.prompt.size();
  state->stream = std::make_shared<OutputStream>(owned.id, capacity);
  return state;
}

}  // namespace mole::runtime
