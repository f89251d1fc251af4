// Is the simulation any good? Each of the known bugs is switched on; the simulation must find it
// within the seeds that CI runs. Each hunt is a process of its own, since a broken invariant may
// also be found by a check of the runtime itself, which aborts.
#include <cstdio>
#include <cstdlib>
#include <string>

#include <sys/wait.h>

#include <gtest/gtest.h>

#include "runtime/injected_bug.h"
#include "tests/sim/sim_seeds.h"
#include "tests/sim/simulation.h"

namespace mole::runtime {
InjectedBug injected_bug = InjectedBug::kNone;
}  // namespace mole::runtime

namespace mole::sim {
namespace {

using runtime::InjectedBug;

// Ends the process with 1 and a line on stderr at the first history that goes wrong, else with 0.
[[noreturn]] void hunt(InjectedBug bug, uint64_t seeds) {
  runtime::injected_bug = bug;
  Metrics registry;
  runtime::EngineMetrics metrics(&registry);
  for (uint64_t seed = first_seed(); seed < first_seed() + seeds; ++seed) {
    Simulation simulation(seed, &metrics);
    const std::string wrong = simulation.run();
    if (wrong.empty()) continue;
    std::fprintf(stderr, "found with seed %llu: %s\n", static_cast<unsigned long long>(seed),
                 wrong.c_str());
    std::_Exit(1);
  }
  std::_Exit(0);
}

bool found(int status) {
  return (WIFEXITED(status) && WEXITSTATUS(status) == 1) ||
         (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

class SimulationFinds : public ::testing::TestWithParam<InjectedBug> {};

TEST_P(SimulationFinds, TheBug) {
  EXPECT_EXIT(hunt(GetParam(), kSeedsDefault), found, "found with seed|invariant broken");
}

INSTANTIATE_TEST_SUITE_P(
    Bugs, SimulationFinds,
    ::testing::Values(InjectedBug::kForgottenRefcount, InjectedBug::kBlockBoundary,
                      InjectedBug::kWrongFormHash, InjectedBug::kLostFinish,
                      InjectedBug::kStarvation, InjectedBug::kPageReusedWhileWritten,
                      InjectedBug::kPageNotVerified, InjectedBug::kPageOfAnother,
                      InjectedBug::kAcceptsWrongDraft, InjectedBug::kIndexesRejectedDraft,
                      InjectedBug::kWaveEndsEarly));

TEST(SimulationFindsNothing, WithoutABug) {
  // Fewer seeds: sim_test runs them all on the real build.
  EXPECT_EXIT(hunt(InjectedBug::kNone, 50), ::testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace mole::sim
