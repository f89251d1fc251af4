#include "server/limits.h"

#include <functional>

#include "base/options.h"
#include "runtime/limits.h"

namespace mole::server {
namespace {

using Add = std::function<void(const char* name, int64_t* value, int64_t min, int64_t max,
                               const char* unit, const char* help)>;

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kDayMs = 86'400'000;

void declare_connection_options(const Add& add, ServerLimits* limits) {
  add("connections-max", &limits->connections_max, 1, 1'000'000, "", "open connections");
  add("connections-per-ip-max", &limits->connections_per_ip_max, 1, 1'000'000, "",
      "open connections of one address");
  add("header-bytes-max", &limits->header_bytes_max, 256, 1 << 20, "BYTES", "request head");
  add("header-count-max", &limits->header_count_max, 1, 10'000, "", "header fields of a request");
  add("header-line-bytes-max", &limits->header_line_bytes_max, 64, 1 << 20, "BYTES",
      "one line of a request head");
  add("body-bytes-max", &limits->body_bytes_max, 1, kGiB, "BYTES", "request body");
  add("header-deadline-ms", &limits->header_deadline_ms, 1, kDayMs, "MS",
      "time to send a request head");
  add("body-deadline-ms", &limits->body_deadline_ms, 1, kDayMs, "MS",
      "time to send a request body");
  add("body-rate-min", &limits->body_rate_min_bytes_per_s, 0, kGiB, "BYTES/S",
      "slowest body that is waited for");
  add("body-rate-grace-ms", &limits->body_rate_grace_ms, 0, kDayMs, "MS",
      "time before body-rate-min counts");
  add("keep-alive-idle-ms", &limits->keep_alive_idle_ms, 1, kDayMs, "MS",
      "idle time of a kept connection");
  add("keep-alive-requests-max", &limits->keep_alive_requests_max, 1, kGiB, "",
      "requests on one connection");
  add("linger-ms", &limits->linger_ms, 0, kDayMs, "MS",
      "time for a client to read the answer that ends its connection");
  add("linger-bytes-max", &limits->linger_bytes_max, 0, kGiB, "BYTES",
      "what is still taken of a client meanwhile");
}

void declare_life_options(const Add& add, ServerLimits* limits) {
  add("stream-unsent-bytes-max", &limits->stream_unsent_bytes_max, 1, kGiB, "BYTES",
      "unsent bytes of one stream");
  add("stream-stall-ms", &limits->stream_stall_ms, 1, kDayMs, "MS",
      "a reader without progress for so long is dropped");
  add("heartbeat-ms", &limits->heartbeat_ms, 10, kDayMs, "MS", "pause between stream heartbeats");
  add("request-deadline-ms", &limits->request_deadline_ms, 1, kDayMs, "MS",
      "wall time of one request");
  add("drain-ms", &limits->drain_ms, 0, kDayMs, "MS", "time for running requests after SIGTERM");
  add("tokenizer-queue-max", &limits->tokenizer_queue_max, 1, 1'000'000, "",
      "requests waiting to be tokenized");
}

void declare_request_options(const Add& add, ServerLimits* limits) {
  add("json-depth-max", &limits->json_depth_max, 1, kJsonDepthHardMax, "",
      "nested arrays and objects of a request");
  add("json-object-keys-max", &limits->json_object_keys_max, 1, 1'000'000, "",
      "keys of one object of a request");
  add("json-nodes-max", &limits->json_nodes_max, 1, 100'000'000, "",
      "values and keys of a request, token ids included");
  add("messages-max", &limits->messages_max, 1, 1'000'000, "", "messages of one chat request");
  add("prompts-max", &limits->prompts_max, 1, kChoicesHardMax, "", "prompts of one request");
  add("stop-max", &limits->stop_max, 1, 16, "", "stop strings of one request");
  add("stop-bytes-max", &limits->stop_bytes_max, 1, 1 << 20, "BYTES", "one stop string");
  add("stop-token-ids-max", &limits->stop_token_ids_max, 0, runtime::kStopTokenIdsMax, "",
      "stop_token_ids of one request");
  add("n-max", &limits->n_max, 1, kChoicesHardMax, "", "choices of one prompt");
  add("logprobs-max", &limits->logprobs_max, 0, runtime::kTopLogprobsMax, "",
      "most likely tokens shown beside each token");
  add("logit-bias-max", &limits->logit_bias_max, 0, runtime::kLogitBiasEntriesMax, "",
      "logit_bias entries");
  add("cache-salt-bytes-max", &limits->cache_salt_bytes_max, 0, runtime::kCacheSaltBytesMax,
      "BYTES", "cache_salt");
  add("template-fuel", &limits->template_fuel, 1, kGiB, "",
      "instructions of the chat template for one request");
}

}  // namespace

void declare_options(Options& options, ServerLimits* limits) {
  const Add add = [&](const char* name, int64_t* value, int64_t min, int64_t max, const char* unit,
                      const char* help) { options.add(name, value, min, max, unit, help); };
  declare_connection_options(add, limits);
  declare_life_options(add, limits);
  declare_request_options(add, limits);
}

}  // namespace mole::server
