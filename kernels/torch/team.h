// The process-wide team that all tensor operations use. Set at load, before the first operation.
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

/// Thread: one caller at a time, like the team itself.
ThreadTeam& team();

/// Replaces the team; 0 = one thread per core. Never changes a result, only its speed. Also keeps
/// LibTorch's own pool at one thread: what it does for us is element by element and small.
void set_team_threads(int32_t threads);

}  // namespace mole::kernels
