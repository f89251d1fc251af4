#include "kernels/torch/team.h"

#include <ATen/Parallel.h>

#include <memory>

namespace mole::kernels {

namespace {
std::unique_ptr<ThreadTeam>& slot() {
  static std::unique_ptr<ThreadTeam> current;
  return current;
}
}  // namespace

ThreadTeam& team() {
  if (slot() == nullptr) set_team_threads(0);
  return *slot();
}

void set_team_threads(int32_t threads) {
  at::set_num_threads(1);
  slot().reset();  // the old workers end before the new ones start
  slot() = std::make_unique<ThreadTeam>(threads);
}

}  // namespace mole::kernels
