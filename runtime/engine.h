// The engine: one thread that owns the scheduler, the cache and the model, and turns requests into
// streams of tokens. Everything else talks to it by messages. Thread: public methods from any
// thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/status.h"
#include "model/model.h"
#include "runtime/ngram_index.h"
#include "runtime/output_stream.h"
#include "runtime/request.h"

namespace mole::runtime {

/// Where drafts come from, tokens that are guessed and verified many in one step.
enum class SpeculativeMethod : uint8_t {
  kNone,
  kNgram,  // what followed the same few tokens earlier in the sequence
  kMtp,    // the model's multi-token-prediction module
};

/// Every bound of the engine; names follow vLLM where the meaning is the same.
struct EngineOptions {
  int32_t max_model_len = 0;  // tokens of prompt + output; 0 = the model's context length
  int32_t max_num_seqs = 64;  // sequences in one step
  int32_t max_num_batched_tokens = 2048;  // tokens in one step
  int64_t kv_cache_bytes = 0;             // 0 = as many blocks as max_num_seqs of max_model_len, at
                                          // most 1 GiB
  std::string kv_cache_dtype = "auto";    // auto, the model's own type, int8, fp8
  std::string kv_swap_file = "";          // keeps what the prefix cache has no room for; "" = none
  int64_t kv_swap_bytes = 0;              // of that file; 0 = 4 times kv_cache_bytes
  int32_t max_queued_requests = 512;      // accepted but not yet running
  int64_t max_queued_tokens = 0;          // prompt tokens waiting; 0 = 4 times the cache's capacity
  int64_t queue_wait_max_us = 30'000'000;  // waited longer: ends with kResourceExhausted
  int32_t stream_events_max = 1024;        // unread events of one request
  bool enable_prefix_caching = true;
  int32_t step_history = 64;              // plans of the last steps that recent_plans() tells
  int32_t max_sequences_per_request = 8;  // n; at most 128
  /// Wanted time between two tokens of a sequence; prompts are cut so that steps keep to it. 0 =
  /// off.
  int64_t target_itl_us = 0;
  int32_t prefill_chunk_min = 16;  // prompt tokens of a step, whatever the target
  /// With a target, prompts pass the layers over several steps, up to so many tokens together; 0 =
  /// each step computes a chunk to the end.
  int32_t prefill_wave_tokens = 1024;
  SpeculativeMethod speculative_method = SpeculativeMethod::kNone;
  int32_t num_speculative_tokens = 4;  // drafts of a sequence in one step at most
  int32_t prompt_lookup_min = 2;       // n-gram drafts: tokens that must agree at least,
  int32_t prompt_lookup_max = 5;       // and that are compared at most

  int32_t draft_tokens_max() const {
    return speculative_method == SpeculativeMethod::kNone ? 0 : num_speculative_tokens;
  }
  NgramOptions ngram_options() const {
    if (speculative_method != SpeculativeMethod::kNgram) return {};
    return {.min = prompt_lookup_min, .max = prompt_lookup_max};
  }
};

/// A snapshot for health checks and headers. Plain numbers, read without locks.
struct EngineStats {
  TimeUs last_step_us = 0;  // steady clock: when the engine thread last made progress or was idle
  int32_t running = 0;
  int32_t waiting = 0;
  int64_t blocks_used = 0;
  int64_t blocks_total = 0;
};

class Engine {
 public:
  /// `clock` and `metrics` must outlive the engine. Errors: kInvalidArgument naming the option.
  static StatusOr<std::unique_ptr<Engine>> create(std::unique_ptr<model::Model> model,
                                                  const EngineOptions& options, const Clock* clock,
                                                  Metrics* metrics);
  /// Stops.
  ~Engine();

  const model::ModelInfo& model_info() const;
  const EngineOptions& options() const;  // zeros resolved

  /// A fresh id.
  RequestId next_request_id();

  /// Accepts or refuses at once. An accepted request always ends with kFinished for each sequence,
  /// or with one kError. Errors: kInvalidArgument (field, value, accepted;
  /// "context_length_exceeded: …" when prompt + max_tokens pass max_model_len), kResourceExhausted
  /// (queue full; retry_after_ms() tells when), kUnavailable (draining or failed).
  StatusOr<std::shared_ptr<OutputStream>> submit(GenerateRequest request);

  /// Ends a request, or one sequence of it; takes effect within one step. Unknown ids are ignored.
  void cancel(RequestId id, std::optional<int32_t> index = std::nullopt);

  /// Refuses new requests from now on. What runs goes on; see idle().
  void begin_drain();
  bool draining() const;
  /// No request is waiting or running.
  bool idle() const;
  /// Ends every request with kError `status`.
  void abort_all(Status status);
  /// Cancels what still runs and joins the engine's thread: afterwards no stream gets an event and
  /// no wake is called, and submit() refuses. Thread: one at a time, never from a wake.
  void stop();

  EngineStats stats() const;
  /// The plans of the last steps, one line of JSON each, oldest first; no prompts in them.
  std::vector<std::string> recent_plans() const;
  /// Honest guess from the measured drain rate of the queue, in [100, 120000].
  int64_t retry_after_ms() const;

 private:
  struct Impl;
  explicit Engine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole::runtime
