#include "kernels/cpu/thread_team.h"

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "base/check.h"

namespace mole::kernels {
namespace {

// Long enough to bridge the serial code between two kernels (some microseconds), short enough not
// to keep a core from others where there are more threads than cores.
constexpr int kSpins = 200;

/// Flushes denormals in this scope, as the matrix units always do: bit 15 FTZ, bit 6 DAZ.
class FlushDenormals {
 public:
  FlushDenormals() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~FlushDenormals() { _mm_setcsr(saved_); }
  FlushDenormals(const FlushDenormals&) = delete;
  FlushDenormals& operator=(const FlushDenormals&) = delete;

 private:
  unsigned saved_;
};

/// Returns when `value` differs from `old`: spins a little, then sleeps in the kernel.
void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; ++i) {
    if (value.load(std::memory_order_acquire) != old) return;
    _mm_pause();
  }
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

struct ThreadTeam::Impl {
  explicit Impl(int32_t threads) : num_threads(threads) {
    for (int32_t i = 1; i < threads; ++i) workers.emplace_back([this, i] { work(i); });
  }

  ~Impl() {
    stopping = true;
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  void work(int32_t index) {
    const FlushDenormals flush;
    uint32_t seen = 0;
    while (true) {
      wait_while(epoch, seen);
      const uint32_t now = epoch.load(std::memory_order_acquire);
      if (now == seen) continue;
      seen = now;
      if (stopping) return;
      run_part(index);
      // The last one wakes the caller; what the parts wrote is released with the count.
      if (pending.fetch_sub(1, std::memory_order_acq_rel) == 1) pending.notify_one();
    }
  }

  void run_part(int32_t index) const {
    if (index >= parts) return;
    const int64_t units = (count + grain - 1) / grain;
    const int64_t begin = units * index / parts * grain;
    const int64_t end = std::min(count, units * (index + 1) / parts * grain);
    if (begin < end) (*fn)(begin, end);
  }

  void run(int64_t total, int64_t step, const RangeFn& range_fn) {
    count = total;
    grain = step;
    fn = &range_fn;
    parts = std::min<int64_t>(num_threads, (total + step - 1) / step);
    if (parts == 1) {
      range_fn(0, total);
      return;
    }
    pending.store(static_cast<uint32_t>(num_threads - 1), std::memory_order_relaxed);
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
    run_part(0);
    while (true) {
      const uint32_t left = pending.load(std::memory_order_acquire);
      if (left == 0) return;
      wait_while(pending, left);
    }
  }

  const int32_t num_threads;
  // The call under way; written before `epoch` is raised, read by workers after they saw it.
  int64_t count = 0, grain = 1, parts = 1;
  const RangeFn* fn = nullptr;
  bool stopping = false;

  std::atomic<uint32_t> epoch{0};
  alignas(64) std::atomic<uint32_t> pending{0};
  std::atomic<bool> busy{false};
  std::vector<std::thread> workers;
};

ThreadTeam::ThreadTeam(int32_t threads) {
  MOLE_CHECK_GE(threads, 0);
  const auto cores = static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
  impl_ = std::make_unique<Impl>(threads == 0 ? cores : threads);
}

ThreadTeam::~ThreadTeam() = default;

int32_t ThreadTeam::num_threads() const { return impl_->num_threads; }

void ThreadTeam::parallel_for(int64_t count, int64_t grain, RangeFn fn) {
  MOLE_CHECK_GE(count, 0);
  MOLE_CHECK_GE(grain, 1);
  if (count == 0) return;
  MOLE_CHECK(!impl_->busy.exchange(true, std::memory_order_acquire));
  {
    const FlushDenormals flush;
    impl_->run(count, grain, fn);
  }
  impl_->busy.store(false, std::memory_order_release);
}

}  // namespace mole::kernels
