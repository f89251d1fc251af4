#include "runtime/sample_context.h"

namespace mole::runtime {

SampleContext sample_context(const Sequence& sequence, std::span<const TokenId> eos_token_ids,
                             int32_t ahead) {
  const RequestState& request = *sequence.request;
  const SamplingParams& sampling = request.request.sampling;
  SampleContext context;
  context.params = &sampling;
  context.counts = &sequence.counts;
  context.seed = request.seed;
  context.stream = static_cast<uint64_t>(sequence.index);
  context.position = static_cast<uint64_t>(sequence.num_tokens() + ahead);
  if (sequence.num_generated() + ahead < sampling.min_tokens) {
    context.forbidden = sampling.stop_token_ids;
    if (!sampling.ignore_eos) context.also_forbidden = eos_token_ids;
  }
  return context;
}

}  // namespace mole::runtime
