// Thousands of short histories, each of another kind; see sim_config.h. A failure prints its seed:
// MOLE_SIM_FIRST_SEED=<seed> MOLE_SIM_SEEDS=1 runs it alone.
#include <cstdio>

#include <gtest/gtest.h>

#include "tests/sim/sim_seeds.h"
#include "tests/sim/simulation.h"

namespace mole::sim {
namespace {

TEST(SimulationTest, EveryHistoryKeepsThePromises) {
  Metrics registry;
  runtime::EngineMetrics metrics(&registry);
  int64_t steps = 0, waves = 0, preempted = 0, hits = 0, loaded = 0, refused = 0, restarts = 0,
          drafted = 0, accepted = 0;
  for (uint64_t seed = first_seed(); seed < first_seed() + num_seeds(); ++seed) {
    Simulation simulation(seed, &metrics);
    ASSERT_EQ(simulation.run(), "") << "seed " << seed;
    steps += simulation.num_steps();
    preempted += simulation.num_preempted();
    waves += simulation.num_wave_steps();
    hits += simulation.num_hit_tokens();
    loaded += simulation.num_pages_loaded();
    refused += simulation.num_pages_refused();
    restarts += simulation.num_restarts();
    drafted += simulation.num_drafted();
    accepted += simulation.num_accepted();
  }
  // A simulation in which nothing happens finds nothing.
  if (num_seeds() >= 100) {
    EXPECT_GT(preempted, static_cast<int64_t>(num_seeds()) / 4);
    EXPECT_GT(waves, static_cast<int64_t>(num_seeds()) * 2);
    EXPECT_GT(hits, static_cast<int64_t>(num_seeds()) * 64);
    EXPECT_GT(loaded, static_cast<int64_t>(num_seeds()) / 4);
    EXPECT_GT(refused, static_cast<int64_t>(num_seeds()) / 10);
    EXPECT_GT(accepted, static_cast<int64_t>(num_seeds()) * 20);
    EXPECT_GT(drafted - accepted, static_cast<int64_t>(num_seeds()) * 20);
    EXPECT_GT(restarts, static_cast<int64_t>(num_seeds()) / 10);
  }
  std::printf("%lld steps, %lld with a wave, %lld pre-empted, ", static_cast<long long>(steps),
              static_cast<long long>(waves), static_cast<long long>(preempted));
  std::printf("%lld prompt tokens from the prefix cache, ", static_cast<long long>(hits));
  std::printf("%lld drafted, %lld accepted, ", static_cast<long long>(drafted),
              static_cast<long long>(accepted));
  std::printf("%lld pages swapped in, %lld refused, %lld restarts\n",
              static_cast<long long>(loaded), static_cast<long long>(refused),
              static_cast<long long>(restarts));
}

TEST(SimulationTest, SameSeedSameHistory) {
  Metrics registry;
  runtime::EngineMetrics metrics(&registry);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Simulation first(seed, &metrics), second(seed, &metrics);
    ASSERT_EQ(first.run(), "") << "seed " << seed;
    ASSERT_EQ(second.run(), "") << "seed " << seed;
    EXPECT_EQ(first.history(), second.history()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace mole::sim
