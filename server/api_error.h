// An error as the API shows it: {"error": {"message", "type", "param", "code"}}, all four always
// there, with a status and the headers that tell OpenAI's clients whether to try again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "server/http_exchange.h"

namespace mole::server {

struct ApiError {
  int status = 400;
  std::string message;
  std::string type = "invalid_request_error";
  std::optional<std::string> param;
  std::optional<std::string> code;
  int64_t retry_after_ms = 0;  // 0 = say nothing
  bool deterministic = true;   // trying again gives the same: 5xx then says x-should-retry: false
  std::string limit;           // the setting that refuses it, for the metric; empty: none
};

/// 400 about one field: `param` names it in the error too.
ApiError invalid_field(const std::string& param, const std::string& message);
/// 400 about a field that passes the setting `limit`, whose value is `max`: `has` says how.
ApiError past_limit(const std::string& param, const std::string& has, int64_t max,
                    const std::string& limit);
ApiError not_found(const std::string& message, const std::string& code);
/// 503: draining or still loading.
ApiError unavailable(const std::string& message);
/// 500: our bug.
ApiError internal_error();
/// 429 with the time to wait.
ApiError overloaded(const std::string& message, int64_t retry_after_ms);

/// The one table from status codes to HTTP. `retry_after_ms` is used for kResourceExhausted.
/// Messages that begin with "context_length_exceeded: " give that code.
ApiError from_status(const Status& status, int64_t retry_after_ms = 1'000);

/// The body (one line of JSON).
std::string error_body(const ApiError& error);
HttpResponse to_response(const ApiError& error);

}  // namespace mole::server
