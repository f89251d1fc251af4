// SIGTERM and SIGINT, taken one by one by the main thread instead of interrupting whatever runs.
#pragma once

#include <chrono>

namespace mole::server {

/// Call first in main(): threads inherit the mask. SIGPIPE is ignored, a closed socket is an error
/// code.
void block_termination_signals();

/// Waits for the next SIGTERM or SIGINT; false when `timeout` has passed. Thread: main.
bool wait_for_termination(std::chrono::milliseconds timeout);

}  // namespace mole::server
