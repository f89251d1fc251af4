#include "tests/sim/solo_run.h"

#include "base/check.h"
#include "runtime/stop_conditions.h"

namespace mole::sim {

using model::AttentionForm;
using runtime::FinishReason;
using runtime::GenerateRequest;
using runtime::SamplingParams;
using runtime::TokenLogprobs;

SoloRun::SoloRun(const GenerateRequest* request, int32_t index, const FakeModelOptions* model)
    : request_(request),
      index_(index),
      model_(model),
      logits_(static_cast<size_t>(model->vocab_size)),
      counts_(model->vocab_size, request->prompt, static_cast<size_t>(model->vocab_size)),
      ended_(request->sampling.max_tokens == 0) {
  for (const TokenId token : request->prompt) take_in(token, AttentionForm::kExpanded);
}

void SoloRun::take_in(TokenId token, AttentionForm form) {
  stamp_ = fake_stamp(stamp_, token, static_cast<int32_t>(tokens_.size()), form);
  context_ = fake_fold(context_, stamp_);
  tokens_.push_back(token);
}

void SoloRun::look() {
  fake_logits(context_, logits_.data(), model_->vocab_size);
  add_habit(tokens_.back(), model_->habit, logits_.data(), model_->vocab_size);
}

TokenLogprobs SoloRun::score(TokenId token, int32_t top) const {
  runtime::LogprobScorer scorer;
  return *scorer.score(logits_, token, top);
}

SoloRun::Next SoloRun::next() {
  MOLE_CHECK(!ended_);
  const SamplingParams& sampling = request_->sampling;
  look();
  runtime::SampleContext context;
  context.params = &sampling;
  const bool penalties = sampling.presence_penalty != 0 || sampling.frequency_penalty != 0 ||
                         sampling.repetition_penalty != 1;
  context.counts = penalties ? &counts_ : nullptr;
  context.seed = static_cast<uint64_t>(*sampling.seed);
  context.stream = static_cast<uint64_t>(index_);
  context.position = tokens_.size();
  if (num_generated_ < sampling.min_tokens) {
    context.forbidden = sampling.stop_token_ids;
    if (!sampling.ignore_eos) context.also_forbidden = model_->eos_token_ids;
  }
  runtime::Sampler sampler(model_->vocab_size);
  Next next;
  next.token = *sampler.sample(logits_, context);
  if (sampling.logprobs >= 0) next.logprobs = score(next.token, sampling.logprobs);
  ++num_generated_;
  next.reason =
      runtime::finish_reason_after(next.token, num_generated_, sampling, model_->eos_token_ids);
  ended_ = next.reason != FinishReason::kNone;
  counts_.add_generated(next.token);
  take_in(next.token, AttentionForm::kAbsorbed);
  return next;
}

std::vector<TokenLogprobs> SoloRun::score_prompt(const GenerateRequest& request,
                                                 const FakeModelOptions& model) {
  GenerateRequest first = request;
  first.prompt.resize(1);
  SoloRun run(&first, 0, &model);
  std::vector<TokenLogprobs> scores;
  for (size_t i = 1; i < request.prompt.size(); ++i) {
    run.look();
    scores.push_back(run.score(request.prompt[i], request.sampling.prompt_logprobs));
    run.take_in(request.prompt[i], AttentionForm::kExpanded);
  }
  return scores;
}

}  // namespace mole::sim
