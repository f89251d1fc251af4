#include "server/limits.h"

#include "base/options.h"

namespace mole::server {

void declare_options(Options& options, ServerLimits* limits) {
  const int64_t kGiB = int64_t{1} << 30;
  const int64_t kDayMs = 86'400'000;
  auto add = [&](const char* name, int64_t* value, int64_t min, int64_t max, const char* unit,
                 const char* help) { options.add(name, value, min, max, unit, help); };
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
  add("keep-alive-idle-ms", &limits->keep_alive_idle_ms, 1, kDayMs, "MS",
      "idle time of a kept connection");
  add("keep-alive-requests-max", &limits->keep_alive_requests_max, 1, kGiB, "",
      "requests on one connection");
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
  add("messages-max", &limits->messages_max, 1, 1'000'000, "", "messages of one chat request");
  add("prompts-max", &limits->prompts_max, 1, kChoicesHardMax, "", "prompts of one request");
  add("stop-max", &limits->stop_max, 1, 16, "", "stop strings of one request");
  add("n-max", &limits->n_max, 1, kChoicesHardMax, "", "choices of one prompt");
  add("logit-bias-max", &limits->logit_bias_max, 1, 1'000'000, "", "logit_bias entries");
}

}  // namespace mole::server
