// Names of requests: unguessable enough that two servers never collide, short enough for logs.
#pragma once

#include <string>

namespace mole::server {

/// "req_" and 24 random hex digits. Thread: any.
std::string new_request_id();

}  // namespace mole::server
