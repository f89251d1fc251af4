// One HTTP request to a Mole server, its answer handed on as it arrives. Ctrl-C ends it: the server
// sees the connection close and cancels the request.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "clients/mole/url.h"

namespace mole::client {

struct HttpCall {
  std::string method = "GET";
  std::string path;     // after the URL's prefix
  std::string body;     // JSON; empty for GET
  std::string api_key;  // empty = none
};

struct HttpAnswer {
  int status = 0;
  std::string content_type;
  std::string body;  // what on_bytes did not get
};

/// Bytes of a 200 answer, as they arrive.
using OnBytes = std::function<void(std::string_view)>;

/// Errors: kUnavailable (no connection, or it broke), kCancelled (Ctrl-C). Thread: blocks the
/// caller.
StatusOr<HttpAnswer> http_call(const Url& url, const HttpCall& call, const OnBytes& on_bytes);

}  // namespace mole::client
