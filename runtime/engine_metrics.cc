#include "runtime/engine_metrics.h"

#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"

namespace mole::runtime {
namespace {

// OpenTelemetry's buckets for generative models; small ones added in front for a fast server.
const std::vector<double> kFirstTokenSeconds = {.001, .0025, .005, .01, .02, .04, .06, .08, .1,
                                                .25,  .5,    .75,  1,   2.5, 5,   7.5, 10};
const std::vector<double> kPerTokenSeconds = {.0005, .001, .002, .003, .005, .0075, .01,
                                              .025,  .05,  .075, .1,   .15,  .2,    .3,
                                              .4,    .5,   .75,  1,    2.5};
const std::vector<double> kRequestSeconds = {.01,  .02,  .04,  .08,   .16,   .32,   .64,
                                             1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
const std::vector<double> kErrors = {.01, .02, .05, .1, .2, .3, .5, .75, 1, 2, 5};
const std::vector<double> kTokens = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192};

}  // namespace

std::string_view finish_reason_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return "none";
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    case FinishReason::kCancelled:
      return "cancelled";
    case FinishReason::kDeadline:
      return "deadline";
    case FinishReason::kError:
      return "error";
  }
  return "unknown";
}

EngineMetrics::EngineMetrics(Metrics* m) : swap(m) {
  requests_running = m->gauge("requests_running", "Requests of which a sequence has run.");
  requests_waiting = m->gauge("requests_waiting", "Accepted requests that have not run yet.");
  sequences_running = m->gauge("sequences_running", "Sequences with blocks of the KV cache.");
  waiting_tokens = m->gauge("waiting_tokens", "Prompt tokens of requests that have not run yet.");
  kv_blocks_used = m->gauge("kv_blocks_used", "Blocks of the KV cache in use.");
  kv_blocks_total = m->gauge("kv_blocks_total", "Blocks of the KV cache.");
  kv_utilization_ratio = m->gauge("kv_utilization_ratio", "Blocks in use / blocks, 0 to 1.");
  prefix_cache_blocks = m->gauge("prefix_cache_blocks", "Blocks that can be found by prefix.");
  max_num_seqs = m->gauge("limit_sequences_running", "Bound of sequences_running.");
  max_num_batched_tokens = m->gauge("limit_iteration_tokens", "Bound of iteration_tokens.");
  max_queued_requests = m->gauge("limit_requests_waiting", "Bound of requests_waiting.");
  max_queued_tokens = m->gauge("limit_waiting_tokens", "Bound of waiting_tokens.");
  target_inter_token =
      m->gauge("limit_inter_token_seconds", "Wanted bound of inter_token_latency, 0 = none.");
  prefill_wave_tokens =
      m->gauge("prefill_wave_tokens", "Prompt tokens that are between two layers of the model.");
  max_prefill_wave_tokens = m->gauge("limit_prefill_wave_tokens", "Bound of prefill_wave_tokens.");
  engine_healthy =
      m->gauge("engine_healthy", "1 while the engine serves, 0 after it failed.", {{"rank", "0"}});
  moe_imbalance_ratio = m->gauge(
      "moe_imbalance_ratio", "Tokens of the busiest expert / mean, of the most uneven MoE layer.");
  add_counters(m);
  add_histograms(m);
}

void EngineMetrics::add_counters(Metrics* m) {
  prefix_cache_queries =
      m->counter("prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.");
  prefix_cache_hits =
      m->counter("prefix_cache_hits_total", "Prompt tokens found in the prefix cache.");
  prompt_tokens = m->counter("prompt_tokens_total", "Prompt tokens of requests that started.");
  generation_tokens = m->counter("generation_tokens_total", "Tokens generated.");
  preemptions = m->counter("preemptions_total", "Sequences that lost their blocks and wait again.");
  expert_tokens = m->counter("expert_tokens_total", "Tokens routed to experts, all layers.",
                             {{"ep_rank", "0"}});
  const std::string refused = "requests_refused_total", refused_help = "Requests not accepted.";
  refused_queue_full = m->counter(refused, refused_help, {{"reason", "queue_full"}});
  refused_invalid = m->counter(refused, refused_help, {{"reason", "invalid"}});
  refused_unavailable = m->counter(refused, refused_help, {{"reason", "unavailable"}});
  client_slow = m->counter("client_slow_total", "Requests cancelled as nobody read their events.");
  queue_timeouts = m->counter("queue_timeouts_total", "Requests that waited longer than allowed.");
  steps = m->counter("steps_total", "Steps of the model.");
  steps_over_target = m->counter("steps_over_target_total",
                                 "Steps that took a waiting sequence longer than the target.");
  draft_tokens = m->counter("speculative_draft_tokens_total", "Drafted tokens that were verified.");
  accepted_tokens = m->counter("speculative_accepted_tokens_total",
                               "Drafted tokens that were equal to the sampled ones.");
}

void EngineMetrics::add_histograms(Metrics* m) {
  time_to_first_token = m->histogram("time_to_first_token_seconds",
                                     "From submission to the first token.", kFirstTokenSeconds);
  inter_token_latency = m->histogram("inter_token_latency_seconds",
                                     "Between two tokens of a sequence.", kPerTokenSeconds);
  e2e_latency = m->histogram("e2e_request_latency_seconds",
                             "From submission to the end of a request.", kRequestSeconds);
  queue_time =
      m->histogram("queue_time_seconds", "From submission to the first step.", kFirstTokenSeconds);
  prefill_time =
      m->histogram("prefill_time_seconds", "From a request's first step to its first token.",
                   kFirstTokenSeconds);
  decode_time = m->histogram("decode_time_seconds", "From a request's first token to its end.",
                             kRequestSeconds);
  step_time =
      m->histogram("step_time_seconds", "One step: plan, model, tokens out.", kPerTokenSeconds);
  step_time_predicted = m->histogram("step_time_predicted_seconds",
                                     "What a step was predicted to take.", kPerTokenSeconds);
  step_time_error = m->histogram("step_time_error_ratio",
                                 "|predicted - actual| / actual time of a step.", kErrors);
  iteration_tokens = m->histogram("iteration_tokens", "Tokens computed in one step.", kTokens);
  for (size_t reason = 1; reason < kReasons; ++reason) {
    const std::string name(finish_reason_name(static_cast<FinishReason>(reason)));
    finished_[reason] = m->counter("request_success_total", "Sequences that ended, by reason.",
                                   {{"finish_reason", name}});
  }
}

void EngineMetrics::count_finish(FinishReason reason) {
  const auto index = static_cast<size_t>(reason);
  MOLE_CHECK(index > 0 && index < kReasons);
  finished_[index].add();
}

}  // namespace mole::runtime
