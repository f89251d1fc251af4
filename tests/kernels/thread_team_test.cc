#include "kernels/cpu/thread_team.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

constexpr unsigned kFlushBits = 0x8040;  // FTZ and DAZ in MXCSR

TEST(ThreadTeam, CoversTheRangeOnceInMultiplesOfTheGrain) {
  for (int32_t threads = 1; threads <= 4; ++threads) {
    ThreadTeam team(threads);
    for (const int64_t count : {0, 1, 2, 3, 7, 16, 63, 64, 65, 1000}) {
      for (const int64_t grain : {1, 2, 16, 100, 5000}) {
        std::mutex mutex;
        std::vector<std::pair<int64_t, int64_t>> parts;
        auto part = [&](int64_t begin, int64_t end) {
          const std::lock_guard<std::mutex> lock(mutex);
          parts.emplace_back(begin, end);
        };
        team.parallel_for(count, grain, part);
        std::sort(parts.begin(), parts.end());
        int64_t next = 0;
        for (const auto& [begin, end] : parts) {
          EXPECT_EQ(begin, next);
          EXPECT_EQ(begin % grain, 0);
          EXPECT_LT(begin, end);
          next = end;
        }
        EXPECT_EQ(next, count);
      }
    }
  }
}

TEST(ThreadTeam, FinishesEveryCallBeforeItReturns) {
  ThreadTeam team(4);
  std::vector<int64_t> seen(4);
  for (int64_t call = 1; call <= 2000; ++call) {
    auto part = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) seen[static_cast<std::size_t>(i)] = call;
    };
    team.parallel_for(4, 1, part);
    for (const int64_t value : seen) ASSERT_EQ(value, call);
  }
}

TEST(ThreadTeam, FlushesDenormalsInsideAndLeavesTheCallerAsItWas) {
  ThreadTeam team(3);
  const unsigned before = _mm_getcsr();
  std::atomic<int> flushing{0};
  auto part = [&](int64_t, int64_t) {
    if ((_mm_getcsr() & kFlushBits) == kFlushBits) ++flushing;
  };
  team.parallel_for(3, 1, part);
  EXPECT_EQ(flushing.load(), 3);
  EXPECT_EQ(_mm_getcsr() & kFlushBits, before & kFlushBits);
}

TEST(ThreadTeam, ZeroMeansOnePerCore) { EXPECT_GE(ThreadTeam(0).num_threads(), 1); }

TEST(ThreadTeamDeathTest, RefusesACallFromInside) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto nested = [] {
    ThreadTeam team(1);
    auto inner = [](int64_t, int64_t) {};
    auto outer = [&](int64_t, int64_t) { team.parallel_for(1, 1, inner); };
    team.parallel_for(1, 1, outer);
  };
  EXPECT_DEATH(nested(), "busy");
}

TEST(IsaDeathTest, MoleIsaChoosesOrIsRefusedWithAReason) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  auto with = [](const char* name) {
    setenv("MOLE_ISA", name, 1);
    std::exit(isa() == Isa::kAvx2 ? 0 : 3);
  };
  EXPECT_EXIT(with("avx2"), testing::ExitedWithCode(0), "");
  EXPECT_EXIT(with("sse9"), testing::ExitedWithCode(1), "MOLE_ISA must be .*sse9");
}

}  // namespace
}  // namespace mole::kernels
