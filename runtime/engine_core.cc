#include "runtime/engine_core.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "base/check.h"
#include "runtime/cache_shape.h"
#include "runtime/injected_bug.h"
#include "runtime/limits.h"
#include "runtime/stop_conditions.h"
#include "runtime/validate.h"

namespace mole::runtime {
namespace {

double seconds(TimeUs from_us, TimeUs to_us) { return static_cast<double>(to_us - from_us) * 1e-6; }

// Logit rows of a step beside those that every sequence has.
int32_t more_logit_rows(const EngineOptions& options, const model::ModelInfo& info) {
  const int64_t row_bytes = int64_t{info.vocab_size} * static_cast<int64_t>(sizeof(float));
  return static_cast<int32_t>(
      std::clamp<int64_t>(kScoredLogitsBytesMax / row_bytes, 1, options.max_num_batched_tokens));
}

int32_t cache_blocks(const EngineOptions& options, const model::ModelInfo& info) {
  return static_cast<int32_t>(num_cache_blocks(options, info));
}

SchedulerOptions scheduler_options(const EngineOptions& options, const model::ModelInfo& info) {
  return {.num_blocks = cache_blocks(options, info),
          .max_num_seqs = options.max_num_seqs,
          .max_num_batched_tokens = options.max_num_batched_tokens,
          .max_scored_rows = more_logit_rows(options, info),
          .queue_wait_max_us = options.queue_wait_max_us,
          .target_itl_us = options.target_itl_us,
          .prefill_chunk_min = options.prefill_chunk_min,
          .prefill_wave_tokens = options.prefill_wave_tokens,
          .num_layers = info.num_layers,
          .max_draft_rows = options.draft_tokens_max() > 0 ? more_logit_rows(options, info) : 0};
}

BatchBuilderOptions builder_options(const EngineOptions& options, const model::ModelInfo& info) {
  return {.max_tokens = options.max_num_batched_tokens,
          .max_sequences = options.max_num_seqs,
          .max_logit_rows = options.max_num_seqs + 2 * more_logit_rows(options, info),
          .max_blocks_per_sequence =
              (options.max_model_len + model::kBlockTokens - 1) / model::kBlockTokens};
}

double expert_share(const model::ModelInfo& info) {
  if (info.num_experts == 0) return 0;
  return static_cast<double>(info.num_experts_per_token) / info.num_experts;
}

}  // namespace

EngineCore::EngineCore(std::unique_ptr<model::Model> model, const EngineOptions& options,
                       const Clock* clock, EngineMetrics* metrics)
    : model_(std::move(model)),
      options_(options),
      clock_(clock),
      metrics_(metrics),
      cache_(cache_shape(options, model_->info(), cache_blocks(options, model_->info()))),
      scheduler_(scheduler_options(options, model_->info())),
      step_times_(expert_share(model_->info())),
      builder_(builder_options(options, model_->info())),
      sampler_(model_->info().vocab_size, builder_options(options, model_->info()).max_logit_rows,
               model_->workers()),
      plans_(options.step_history, kChunksPerSequenceMax * options.max_num_seqs) {
  if (options.speculative_method == SpeculativeMethod::kMtp) {
    mtp_drafter_ = std::make_unique<MtpDrafter>(builder_options(options, model_->info()),
                                                options.num_speculative_tokens);
  }
  metrics_->kv_blocks_total.set(scheduler_.pool().num_blocks());
}

EngineCore::~EngineCore() = default;

void EngineCore::add(std::unique_ptr<RequestState> request) {
  scheduler_.add(request.get());
  requests_.push_back(std::move(request));
}

void EngineCore::cancel(RequestId id, std::optional<int32_t> index) {
  for (const auto& request : requests_) {
    if (request->request.id != id) continue;
    for (Sequence& sequence : request->sequences) {
      if (sequence.state == SequenceState::kFinished) continue;
      if (!index || *index == sequence.index) end_sequence(&sequence, FinishReason::kCancelled);
    }
  }
  remove_ended();
}

void EngineCore::abort_all(const Status& status) {
  for (const auto& request : requests_) {
    if (request->num_live > 0) fail_request(request.get(), status);
  }
  remove_ended();
}

Status EngineCore::step() {
  const TimeUs began_us = clock_->now_us();
  const StepPlan& plan = scheduler_.plan(began_us, step_times_.cost());
  plan_ = &plan;
  plans_.record(plan, began_us);
  end_expired(plan);
  note_started(plan);
  if (!plan.chunks.empty()) {
    const model::StepInput input = builder_.build(plan);
    model::StepOutput output;
    const Status status = model_->forward(input, cache_, &output);
    const size_t wanted = input.logit_rows.size() * static_cast<size_t>(model_info().vocab_size);
    if (!status.ok()) return annotate(status, "the model failed");
    MOLE_CHECK_EQ(output.logits.size(), wanted);
    choose_tokens(plan, output);
    publish(plan, output);
    MOLE_RETURN_IF_ERROR(propose_drafts(plan));
  }
  note_step(plan, began_us);
  remove_ended();
  return absl::OkStatus();
}

void EngineCore::end_expired(const StepPlan& plan) {
  for (const ExpiredRequest& expired : plan.expired) {
    RequestState* request = expired.request;
    if (expired.in_queue) {
      metrics_->queue_timeouts.add();
      metrics_->count_finish(FinishReason::kError);
      StreamEvent event;
      event.kind = StreamEvent::Kind::kError;
      event.finish_reason = FinishReason::kError;
      event.error = absl::ResourceExhaustedError("the request waited longer than " +
                                                 std::to_string(options_.queue_wait_max_us / 1000) +
                                                 " ms to run");
      request->stream->push_last(std::move(event));
      continue;
    }
    for (const Sequence& sequence : request->sequences) {
      if (sequence.finish_reason != FinishReason::kDeadline) continue;
      send_finished(sequence, FinishReason::kDeadline, -1);
    }
  }
}

void EngineCore::note_started(const StepPlan& plan) {
  for (const PlannedChunk& chunk : plan.chunks) {
    RequestState* request = chunk.sequence->request;
    if (request->left_queue) continue;
    note_left_queue(request);
    metrics_->queue_time.observe(seconds(request->submitted_us, request->started_us));
    metrics_->prompt_tokens.add(static_cast<double>(request->request.prompt.size()));
  }
}

void EngineCore::publish(const StepPlan& plan, const model::StepOutput& output) {
  int32_t row = 0;
  for (const PlannedChunk& chunk : plan.chunks) {
    // Another sequence of the same request may have ended this one a moment ago.
    const bool runs = chunk.sequence->state == SequenceState::kRunning;
    if (runs && chunk.ends) publish_chunk(chunk, output, row);
    row += chunk.num_logits;
  }
}

void EngineCore::publish_chunk(const PlannedChunk& chunk, const model::StepOutput& output,
                               int32_t row) {
  Sequence* sequence = chunk.sequence;
  scheduler_.computed(chunk);
  Status status = publish_scored(chunk, row);
  if (status.ok() && chunk.samples) {
    status = publish_run(chunk, output, row + chunk.num_scored());
  } else if (status.ok() && sequence->request->request.sampling.max_tokens == 0 &&
             sequence->num_computed == sequence->num_tokens()) {
    end_sequence(sequence, FinishReason::kLength);
  }
  if (!status.ok()) fail_request(sequence->request, status);
}

Status EngineCore::publish_scored(const PlannedChunk& chunk, int32_t row) {
  Sequence* sequence = chunk.sequence;
  RequestState* request = sequence->request;
  const int32_t top = request->request.sampling.prompt_logprobs;
  if (top < 0 || sequence->index != 0) return absl::OkStatus();
  StreamEvent event;
  event.kind = StreamEvent::Kind::kPromptToken;
  if (!request->prompt_echoed) {
    request->prompt_echoed = true;
    event.token = sequence->tokens.front();
    if (!send(sequence, event)) return absl::OkStatus();
  }
  event.has_logprobs = true;
  for (int32_t i = 0; i < chunk.num_scored(); ++i) {
    Choice* scored = sampler_.find(row + i);
    MOLE_CHECK(scored != nullptr);
    event.token = *scored->token;
    MOLE_ASSIGN_OR_RETURN(event.logprobs, std::move(scored->logprobs));
    if (!send(sequence, event)) return absl::OkStatus();
  }
  return absl::OkStatus();
}

// Samples the next token, and goes on behind it as long as it is the one that was drafted: then the
// row that follows was computed for it. `row` is that of the sequence's last token, then come those
// of its drafts.
Status EngineCore::publish_run(const PlannedChunk& chunk, const model::StepOutput& output,
                               int32_t row) {
  Sequence* sequence = chunk.sequence;
  int32_t accepted = 0;
  for (int32_t i = 0;; ++i) {
    MOLE_RETURN_IF_ERROR(publish_sampled(sequence, output, row + i));
    if (i == chunk.num_drafts || sequence->state != SequenceState::kRunning) break;
    const bool right = sequence->tokens.back() == sequence->drafts[static_cast<size_t>(i)];
    if (!right && !(injected(InjectedBug::kAcceptsWrongDraft) && i == 0)) break;
    scheduler_.accept(sequence);
    ++accepted;
  }
  if (chunk.num_drafts == 0) return absl::OkStatus();
  sequence->draft_record.note(chunk.num_drafts, accepted, sequence->num_generated());
  sequence->drafted_tokens += chunk.num_drafts;
  sequence->accepted_tokens += accepted;
  metrics_->draft_tokens.add(chunk.num_drafts);
  metrics_->accepted_tokens.add(accepted);
  return absl::OkStatus();
}

Status EngineCore::propose_drafts(const StepPlan& plan) {
  if (mtp_drafter_ != nullptr) {
    const double chance_min = least_draft_chance(plan, step_times_.cost());
    MOLE_ASSIGN_OR_RETURN(module_drafts_,
                          mtp_drafter_->draft(plan, chance_min, *model_, cache_, sampler_));
    return absl::OkStatus();
  }
  if (options_.speculative_method != SpeculativeMethod::kNgram) return absl::OkStatus();
  for (const PlannedChunk& chunk : plan.chunks) {
    Sequence* sequence = chunk.sequence;
    if (!chunk.samples || sequence->state != SequenceState::kRunning) continue;
    sequence->drafts.clear();
    sequence->ngrams.propose(sequence->tokens, options_.num_speculative_tokens, &sequence->drafts);
  }
  return absl::OkStatus();
}

Status EngineCore::publish_sampled(Sequence* sequence, const model::StepOutput& output,
                                   int32_t row) {
  if (sequence->state != SequenceState::kRunning)
    return absl::OkStatus();  // its reader was too slow
  const SamplingParams& sampling = sequence->request->request.sampling;
  const std::span<const TokenId> eos = model_info().eos_token_ids;
  Choice* chosen = sampler_.find(row);
  Choice now;
  if (chosen == nullptr) {
    now = sampler_.choose(sampled_row(*sequence, logits_row(output, row), 0));
    chosen = &now;
  }
  StreamEvent event;
  event.index = sequence->index;
  MOLE_ASSIGN_OR_RETURN(event.token, chosen->token);
  if (sampling.logprobs >= 0) {
    event.has_logprobs = true;
    MOLE_ASSIGN_OR_RETURN(event.logprobs, std::move(chosen->logprobs));
  }
  scheduler_.append(sequence, event.token);
  note_token_time(sequence);
  const TokenId token = event.token;
  const FinishReason reason = finish_reason_after(token, sequence->num_generated(), sampling, eos);
  if (reason == FinishReason::kStop) {
    end_sequence(sequence, reason, token);
  } else if (send(sequence, std::move(event)) && reason == FinishReason::kLength) {
    end_sequence(sequence, reason);
  }
  return absl::OkStatus();
}

// False if the reader was too slow; the whole request has then ended.
bool EngineCore::send(Sequence* sequence, StreamEvent event) {
  RequestState* request = sequence->request;
  if (request->stream->push(std::move(event))) return true;
  metrics_->client_slow.add();
  fail_request(request,
               absl::CancelledError("slow reader: " + std::to_string(options_.stream_events_max) +
                                    " events were not read in time"));
  return false;
}

void EngineCore::note_token_time(Sequence* sequence) {
  RequestState* request = sequence->request;
  const TimeUs now_us = clock_->now_us();
  metrics_->generation_tokens.add();
  if (sequence->num_generated() > 1) {
    metrics_->inter_token_latency.observe(seconds(sequence->last_token_us, now_us));
  } else if (request->first_token_us < 0) {
    request->first_token_us = now_us;
    metrics_->time_to_first_token.observe(seconds(request->submitted_us, now_us));
    metrics_->prefill_time.observe(seconds(request->started_us, now_us));
  }
  sequence->last_token_us = now_us;
}

void EngineCore::end_sequence(Sequence* sequence, FinishReason reason, TokenId stop_token) {
  scheduler_.finish(sequence, reason);
  send_finished(*sequence, reason, stop_token);
}

void EngineCore::send_finished(const Sequence& sequence, FinishReason reason, TokenId stop_token) {
  metrics_->count_finish(reason);
  StreamEvent event;
  event.kind = StreamEvent::Kind::kFinished;
  event.index = sequence.index;
  event.finish_reason = reason;
  event.stop_token = stop_token;
  event.usage = {.prompt_tokens = sequence.num_prompt,
                 .completion_tokens = sequence.num_generated(),
                 .cached_tokens = sequence.request->cached_tokens,
                 .drafted_tokens = sequence.drafted_tokens,
                 .accepted_tokens = sequence.accepted_tokens};
  if (injected(InjectedBug::kLostFinish) && sequence.index > 0) return;
  sequence.request->stream->push_last(std::move(event));
}

void EngineCore::fail_request(RequestState* request, const Status& status) {
  for (Sequence& sequence : request->sequences) {
    if (sequence.state == SequenceState::kFinished) continue;
    scheduler_.finish(&sequence, FinishReason::kError);
  }
  metrics_->count_finish(FinishReason::kError);
  StreamEvent event;
  event.kind = StreamEvent::Kind::kError;
  event.finish_reason = FinishReason::kError;
  // Its own copy: a Status counts its users, and this one goes to another thread.
  event.error = Status(status.code(), status.message());
  request->stream->push_last(std::move(event));
}

void EngineCore::note_left_queue(RequestState* request) {
  request->left_queue = true;
  notices_.left_queue.push_back({static_cast<int64_t>(request->request.prompt.size())});
}

void EngineCore::remove_ended() {
  for (size_t i = requests_.size(); i-- > 0;) {
    RequestState* request = requests_[i].get();
    if (request->num_live > 0) continue;
    if (!request->left_queue) note_left_queue(request);
    const TimeUs now_us = clock_->now_us();
    metrics_->e2e_latency.observe(seconds(request->submitted_us, now_us));
    if (request->first_token_us >= 0) {
      metrics_->decode_time.observe(seconds(request->first_token_us, now_us));
    }
    notices_.ended.push_back(request->request.id);
    requests_[i] = std::move(requests_.back());
    requests_.pop_back();
  }
  refresh_gauges();
  if (swap_ != nullptr) metrics_->swap.report(*scheduler_.swapper());
}

void EngineCore::note_step(const StepPlan& plan, TimeUs began_us) {
  const Scheduler::PrefixStats& prefix = scheduler_.prefix_stats();
  metrics_->prefix_cache_queries.add(
      static_cast<double>(prefix.queried_tokens - reported_prefix_.queried_tokens));
  metrics_->prefix_cache_hits.add(
      static_cast<double>(prefix.hit_tokens - reported_prefix_.hit_tokens));
  reported_prefix_ = prefix;
  metrics_->preemptions.add(plan.num_preempted);
  if (plan.chunks.empty()) return;
  metrics_->steps.add();
  metrics_->iteration_tokens.observe(plan.num_tokens);
  note_step_time(plan, seconds(began_us, clock_->now_us()));
  if (++num_steps_ % kExpertLoadSteps == 0 || scheduler_.idle()) note_experts();
}

void EngineCore::note_step_time(const StepPlan& plan, double seconds) {
  metrics_->step_time.observe(seconds);
  const double target_s = static_cast<double>(options_.target_itl_us) * 1e-6;
  if (target_s > 0 && plan.num_decodes > 0 && seconds > target_s) metrics_->steps_over_target.add();
  StepWork work = plan.work;
  work.module_drafts = module_drafts_;
  if (step_times_.cost().known && seconds > 0) {
    const double predicted = step_times_.cost().predict(work);
    metrics_->step_time_predicted.observe(predicted);
    metrics_->step_time_error.observe(std::abs(predicted - seconds) / seconds);
  }
  step_times_.observe(work, seconds);
}

// Also after a cancellation, as an engine that has become idle takes no further step.
void EngineCore::refresh_gauges() {
  const BlockPool& pool = scheduler_.pool();
  const int32_t queued = scheduler_.num_queued_requests();
  metrics_->kv_blocks_used.set(pool.num_used());
  metrics_->kv_utilization_ratio.set(static_cast<double>(pool.num_used()) / pool.num_blocks());
  metrics_->prefix_cache_blocks.set(scheduler_.prefix_cache().num_published());
  metrics_->sequences_running.set(scheduler_.num_running());
  metrics_->prefill_wave_tokens.set(scheduler_.wave().num_rows());
  metrics_->requests_waiting.set(queued);
  metrics_->requests_running.set(static_cast<double>(scheduler_.num_requests() - queued));
}

void EngineCore::note_experts() {
  const std::vector<int64_t> loads = model_->take_expert_loads();
  const auto experts = static_cast<ptrdiff_t>(model_info().num_experts);
  if (experts == 0) return;
  double worst = 0;
  for (auto layer = loads.begin(); loads.end() - layer >= experts; layer += experts) {
    const auto total = static_cast<double>(std::accumulate(layer, layer + experts, int64_t{0}));
    if (total == 0) continue;
    const auto busiest = static_cast<double>(*std::max_element(layer, layer + experts));
    metrics_->expert_tokens.add(total);
    worst = std::max(worst, busiest * static_cast<double>(experts) / total);
  }
  metrics_->moe_imbalance_ratio.set(worst);
}

}  // namespace mole::runtime
