// What the rows of a step's logits are for: a part of EngineCore, see engine_core.h.
#include "runtime/engine_core.h"
#include "runtime/sample_context.h"

namespace mole::runtime {

std::span<const float> EngineCore::logits_row(const model::StepOutput& output, int32_t row) const {
  const auto vocab = static_cast<size_t>(model_info().vocab_size);
  return output.logits.subspan(static_cast<size_t>(row) * vocab, vocab);
}

StepSampler::Row EngineCore::sampled_row(const Sequence& sequence, std::span<const float> logits,
                                         int32_t ahead) const {
  return {.logits = logits,
          .context = sample_context(sequence, model_info().eos_token_ids, ahead),
          .logprobs = sequence.request->request.sampling.logprobs};
}

// Before anything is published, so that all threads can choose at once. A row behind a draft is
// chosen as if the drafts before it were right, else nobody asks for it; penalties would have to
// count them, so there it is left until they are known.
void EngineCore::choose_tokens(const StepPlan& plan, const model::StepOutput& output) {
  sampler_.begin();
  int32_t row = 0;
  for (const PlannedChunk& chunk : plan.chunks) {
    if (chunk.sequence->state == SequenceState::kRunning && chunk.ends) {
      add_rows(chunk, output, row);
    }
    row += chunk.num_logits;
  }
  sampler_.run();
}

void EngineCore::add_rows(const PlannedChunk& chunk, const model::StepOutput& output, int32_t row) {
  const Sequence& sequence = *chunk.sequence;
  for (int32_t i = 0; i < chunk.num_scored(); ++i) {
    sampler_.add(row + i,
                 {.logits = logits_row(output, row + i),
                  .logprobs = sequence.request->request.sampling.prompt_logprobs,
                  .known = sequence.tokens[static_cast<size_t>(chunk.logits_first + i + 1)]});
  }
  if (!chunk.samples) return;
  row += chunk.num_scored();
  const int32_t ahead = sequence.counts.enabled() ? 0 : chunk.num_drafts;
  for (int32_t i = 0; i <= ahead; ++i) {
    sampler_.add(row + i, sampled_row(sequence, logits_row(output, row + i), i));
  }
}

}  // namespace mole::runtime
