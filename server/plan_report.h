// What an operator sees after SIGUSR1, or in the log of a failed engine.
#pragma once

#include "server/app.h"

namespace mole::server {

/// Logs the plans of the engine's last steps, one line each, and how many requests run and wait. It
/// asks nothing of the engine's thread, so it also works while a step hangs. Thread: any.
void log_recent_plans(const App& app);

}  // namespace mole::server
