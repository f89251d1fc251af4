// SIGTERM, SIGINT and SIGUSR1, taken one by one by the main thread instead of interrupting whatever
// runs.
#pragma once

#include <chrono>
#include <functional>

namespace mole::server {

/// Call first in main(): threads inherit the mask. SIGPIPE is ignored, a closed socket is an error
/// code.
void block_signals();

/// Waits for the next SIGTERM or SIGINT; false when `timeout` has passed, or after a SIGUSR1, for
/// which `on_report` is called. Thread: main.
bool wait_for_termination(std::chrono::milliseconds timeout,
                          const std::function<void()>& on_report);

}  // namespace mole::server
