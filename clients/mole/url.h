// The address of a server: http://host[:port][/prefix].
#pragma once

#include <string>

#include "base/status.h"

namespace mole::client {

struct Url {
  std::string host;  // without brackets
  std::string port = "80";
  std::string prefix;  // path in front of the API's own, without a slash at its end
};

/// Errors: kInvalidArgument saying what is accepted.
StatusOr<Url> parse_url(const std::string& text);

/// "host:port" as the Host field wants it.
std::string host_field(const Url& url);

}  // namespace mole::client
