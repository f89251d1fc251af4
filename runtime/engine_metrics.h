// The engine's metrics, registered once at start-up. Names without the prefix `mole_`.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "base/metrics.h"
#include "runtime/request.h"
#include "runtime/swap_metrics.h"

namespace mole::runtime {

std::string_view finish_reason_name(FinishReason reason);

struct EngineMetrics {
  explicit EngineMetrics(Metrics* metrics);

  /// One more sequence ended for `reason`.
  void count_finish(FinishReason reason);

  // How near the bounds are.
  Gauge requests_running, requests_waiting, sequences_running;
  Gauge waiting_tokens;  // prompt tokens of accepted requests that don't run yet
  Gauge kv_blocks_used, kv_blocks_total, kv_utilization_ratio, prefix_cache_blocks;
  Gauge max_num_seqs, max_num_batched_tokens, max_queued_requests, max_queued_tokens;
  Gauge target_inter_token;
  Gauge prefill_wave_tokens, max_prefill_wave_tokens;
  Gauge engine_healthy, moe_imbalance_ratio;

  Counter prefix_cache_queries, prefix_cache_hits;
  Counter prompt_tokens, generation_tokens, preemptions, expert_tokens;
  Counter refused_queue_full, refused_invalid, refused_unavailable;
  Counter client_slow, queue_timeouts, steps, steps_over_target;
  Counter draft_tokens, accepted_tokens;  // speculation

  Histogram time_to_first_token, inter_token_latency, e2e_latency, queue_time, step_time;
  Histogram prefill_time, decode_time;
  Histogram step_time_predicted, step_time_error;
  Histogram iteration_tokens;

  SwapMetrics swap;

 private:
  void add_counters(Metrics* m);
  void add_histograms(Metrics* m);

  static constexpr size_t kReasons = 6;
  std::array<Counter, kReasons> finished_;
};

}  // namespace mole::runtime
