// Every bound of the HTTP server, in one table: name, default, and what happens past it. Each is an
// option (declare_options), and each has a test at the limit and one past it.
#pragma once

#include <cstdint>

namespace mole {
class Options;
}

namespace mole::server {

struct ServerLimits {
  // Connections. Over: closed at accept and counted.
  int64_t connections_max = 4'096;
  int64_t connections_per_ip_max = 256;

  // Request head. Over: 431 and close.
  int64_t header_bytes_max = 16 * 1'024;
  int64_t header_count_max = 100;
  int64_t header_line_bytes_max = 8 * 1'024;

  // Request body. Over: 413 and close, before it has all been read.
  int64_t body_bytes_max = 8 * 1'024 * 1'024;

  // Time to send a request. Over: 408 and close.
  int64_t header_deadline_ms = 10'000;
  int64_t body_deadline_ms = 30'000;
  int64_t body_rate_min_bytes_per_s = 1'024;
  int64_t body_rate_grace_ms = 5'000;  // the rate counts from here on

  // Kept-alive connections. Over: closed.
  int64_t keep_alive_idle_ms = 75'000;
  int64_t keep_alive_requests_max = 10'000;
  int64_t linger_ms = 1'000;              // after an error: time for the client to read it
  int64_t linger_bytes_max = 64 * 1'024;  // and what of its body is still taken meanwhile

  // A stream's reader. Over `unsent`: no more events are taken from the engine (whose own queue is
  // bounded too); no progress for `stall`: the request is cancelled and the connection closed.
  int64_t stream_unsent_bytes_max = 256 * 1'024;
  int64_t stream_stall_ms = 20'000;
  int64_t heartbeat_ms = 15'000;  // ": ping" on a stream that has nothing to say

  // Life of a request and of the server.
  int64_t request_deadline_ms = 600'000;  // over: 504, or an error event
  int64_t drain_ms = 30'000;              // after SIGTERM; over: error events
  int64_t tokenizer_queue_max = 512;      // requests waiting to be tokenized; over: 429

  // JSON of a request. Over: 400.
  int64_t json_depth_max = 64;  // at most kJsonDepthHardMax
  int64_t json_object_keys_max = 1'024;
  int64_t json_nodes_max = 200'000;
  int64_t messages_max = 2'048;
  int64_t prompts_max = 128;  // in one request
  int64_t stop_max = 4;
  int64_t stop_bytes_max = 1'024;
  int64_t stop_token_ids_max = 128;
  int64_t n_max = 8;  // choices per prompt; never above kChoicesHardMax
  int64_t logprobs_max = 20;
  int64_t logit_bias_max = 1'024;
  int64_t cache_salt_bytes_max = 1'024;
  int64_t template_fuel = 1'000'000;
};

/// Choices of one request over all its prompts: the specification's own bound of `n`.
inline constexpr int64_t kChoicesHardMax = 128;
/// The chat template's JSON reader takes no more than 128 levels; ours wraps what it gets.
inline constexpr int64_t kJsonDepthHardMax = 120;
/// Accepted length of a client's x-request-id.
inline constexpr int64_t kRequestIdBytesMax = 128;

/// Adds an option for each limit.
void declare_options(Options& options, ServerLimits* limits);

}  // namespace mole::server
