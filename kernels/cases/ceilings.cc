#include "kernels/cases/ceilings.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>

#include "base/check.h"
#include "kernels/cases/gemv_probe.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

// Many short tries, of which the best counts: a try of a millisecond or two fits between the
// moments in which others use a shared core.
constexpr int kTries = 60;
constexpr int kMemoryTries = 5;

struct Free {
  void operator()(float* data) const { std::free(data); }
};

/// Zeroed floats in huge pages, each page touched.
std::unique_ptr<float[], Free> huge_floats(int64_t count) {
  const auto bytes = static_cast<std::size_t>(count) * sizeof(float);
  auto* data = static_cast<float*>(std::aligned_alloc(std::size_t{2} << 20, bytes));
  MOLE_CHECK(data != nullptr);
  (void)madvise(data, bytes, MADV_HUGEPAGE);
  std::fill(data, data + count, 1.0f);
  return std::unique_ptr<float[], Free>(data);
}

/// Best rate of `amount` per second of fn, all threads at once: fn(thread).
double best_rate(ThreadTeam& team, double amount, const std::function<void(int64_t)>& fn) {
  double best = 0;
  for (int64_t turn = 0; turn < kTries; ++turn) {
    const double start = seconds_now();
    auto part = [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; ++thread) fn(thread);
    };
    team.parallel_for(team.num_threads(), 1, part);
    best = std::max(best, amount / (seconds_now() - start));
  }
  return best;
}

/// Best mean time of a region in which every thread has a part of nothing.
double measure_region(ThreadTeam& team) {
  constexpr int kRegions = 500;
  double best = 1;
  auto nothing = [](int64_t, int64_t) {};
  for (int turn = 0; turn < kTries; ++turn) {
    const double start = seconds_now();
    for (int i = 0; i < kRegions; ++i) team.parallel_for(team.num_threads(), 1, nothing);
    best = std::min(best, (seconds_now() - start) / kRegions);
  }
  return best;
}

// What probes return goes here, so that the compiler can't drop them.
std::atomic<float> sink{0};

}  // namespace

bool probe_has_bf16() {
  __builtin_cpu_init();
  return isa() != Isa::kAvx2 && __builtin_cpu_supports("avx512bf16") != 0;
}

double seconds_now() {
  using Seconds = std::chrono::duration<double>;
  return Seconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double median(std::vector<double> values) {
  MOLE_CHECK(!values.empty());
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

Ceilings measure_ceilings(ThreadTeam& team, bool brief) {
  const bool narrow = isa() == Isa::kAvx2;
  const auto probe_read = narrow ? avx2::probe_read : avx512::probe_read;
  const auto probe_fma = narrow ? avx2::probe_fma : avx512::probe_fma;
  const int64_t threads = team.num_threads();
  Ceilings out;

  const int64_t memory_bytes = (brief ? int64_t{64} : int64_t{2048}) << 20;
  {
    GemvProbe probe(team, memory_bytes);
    ThreadTeam alone(1);
    for (int turn = 0; turn < kMemoryTries; ++turn) {
      out.memory_bytes_per_s = std::max(out.memory_bytes_per_s, probe.rate(team, memory_bytes));
      out.streams_bytes_per_s = std::max(
          out.streams_bytes_per_s, probe.rate(team, memory_bytes, GemvProbe::Order::kEightStreams));
      // A part does: alone it takes twice the time.
      out.one_thread_bytes_per_s =
          std::max(out.one_thread_bytes_per_s, probe.rate(alone, memory_bytes / 4));
    }
  }
  constexpr int64_t kCacheFloats = int64_t{1} << 17;
  constexpr int64_t kCacheRounds = 100;
  const auto memory = huge_floats(kCacheFloats * threads);
  out.cache_bytes_per_s = best_rate(
      team, static_cast<double>(kCacheRounds * kCacheFloats * threads * 4), [&](int64_t thread) {
        for (int64_t round = 0; round < kCacheRounds; ++round) {
          sink = probe_read(memory.get() + thread * kCacheFloats, kCacheFloats);
        }
      });
  out.region_s = measure_region(team);
  constexpr int64_t kRounds = 100000;
  out.f32_flops = best_rate(team, kFlopsPerFmaRound * static_cast<double>(kRounds * threads),
                            [&](int64_t) { sink = probe_fma(kRounds); });
  out.bf16_flops = out.f32_flops;
  if (isa() == Isa::kAmx) {
    constexpr int64_t kAmxRounds = 20000;
    out.bf16_flops = best_rate(team, kFlopsPerAmxRound * static_cast<double>(kAmxRounds * threads),
                               [&](int64_t) { probe_amx(kAmxRounds); });
  }
  return out;
}

}  // namespace mole::kernels
