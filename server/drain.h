// The one way a server ends: refuse new requests, let running ones finish for a while, end the rest
// with an error event, see the answers out, stop.
#pragma once

#include <chrono>
#include <functional>

#include "server/app.h"
#include "server/http_server.h"

namespace mole::server {

/// True when the operator asks again while we wait: then nothing more is waited for.
using AskedAgain = std::function<bool(std::chrono::milliseconds wait)>;

/// Returns when the server has stopped, at the latest about 4 s after the drain's own time.
/// Thread: the owner's.
void drain_and_stop(App& app, HttpServer& server, const AskedAgain& asked_again);

}  // namespace mole::server
