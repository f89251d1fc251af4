#include "server/api_error.h"

#include <algorithm>

#include "server/json_writer.h"

namespace mole::server {
namespace {

void append_optional(std::string* out, const std::optional<std::string>& text) {
  if (text.has_value()) {
    append_json_string(out, replace_invalid_utf8(*text));
  } else {
    out->append("null");
  }
}

}  // namespace

ApiError invalid_field(const std::string& param, const std::string& message) {
  ApiError error;
  error.message = param + ": " + message;
  error.param = param;
  return error;
}

ApiError past_limit(const std::string& param, const std::string& has, int64_t max,
                    const std::string& limit) {
  ApiError error = invalid_field(param, has + "; accepted: at most " + std::to_string(max));
  error.limit = limit;
  return error;
}

ApiError not_found(const std::string& message, const std::string& code) {
  ApiError error;
  error.status = 404;
  error.message = message;
  error.code = code;
  return error;
}

ApiError unavailable(const std::string& message) {
  ApiError error;
  error.status = 503;
  error.message = message;
  error.type = "server_error";
  error.code = "service_unavailable";
  error.retry_after_ms = 1'000;
  error.deterministic = false;
  return error;
}

ApiError internal_error() {
  ApiError error;
  error.status = 500;
  // The cause goes to the log: a message could carry what is nobody's business outside.
  error.message = "the server failed to answer this request; its log says why";
  error.type = "server_error";
  return error;
}

ApiError overloaded(const std::string& message, int64_t retry_after_ms) {
  ApiError error;
  error.status = 429;
  error.message = message;
  error.type = "rate_limit_error";
  error.code = "rate_limit_exceeded";
  error.retry_after_ms = std::max<int64_t>(1, retry_after_ms);
  error.deterministic = false;
  return error;
}

ApiError from_status(const Status& status, int64_t retry_after_ms) {
  const std::string message(status.message());
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented: {
      constexpr std::string_view kContext = "context_length_exceeded: ";
      ApiError error;
      error.message = message;
      if (message.substr(0, kContext.size()) == kContext) {
        error.message = message.substr(kContext.size());
        error.code = "context_length_exceeded";
        error.limit = "max-model-len";
      }
      return error;
    }
    case absl::StatusCode::kNotFound:
      return not_found(message, "not_found");
    case absl::StatusCode::kResourceExhausted:
      return overloaded(message, retry_after_ms);
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kCancelled:
      return unavailable(message);
    case absl::StatusCode::kDeadlineExceeded: {
      ApiError error;
      error.status = 504;
      error.message = message;
      error.type = "server_error";
      error.code = "request_timeout";
      return error;
    }
    default:
      return internal_error();
  }
}

std::string error_body(const ApiError& error) {
  std::string body = "{\"error\":{\"message\":";
  append_json_string(&body, replace_invalid_utf8(error.message));
  body += ",\"type\":";
  append_json_string(&body, error.type);
  body += ",\"param\":";
  append_optional(&body, error.param);
  body += ",\"code\":";
  append_optional(&body, error.code);
  body += "}}";
  return body;
}

HttpResponse to_response(const ApiError& error) {
  HttpResponse response;
  response.status = error.status;
  response.body = error_body(error);
  if (error.retry_after_ms > 0) {
    response.headers.push_back({"retry-after-ms", std::to_string(error.retry_after_ms)});
    const int64_t seconds = (error.retry_after_ms + 999) / 1'000;
    response.headers.push_back({"retry-after", std::to_string(seconds)});
  }
  if (error.status >= 500 && error.deterministic) {
    response.headers.push_back({"x-should-retry", "false"});
  }
  return response;
}

}  // namespace mole::server
