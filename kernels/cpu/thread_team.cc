#include "kernels/cpu/thread_team.h"

#include <immintrin.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/numa.h"

namespace mole::kernels {
namespace {

// A sleeping worker takes some 50 us to wake on a virtual machine, and a step's kernels follow each
// other within less: long enough to bridge what lies between them. Where there are more threads
// than cores a spinning one only keeps a core from the thread it waits for.
constexpr std::chrono::microseconds kSpin{200}, kSpinCrowded{2};
constexpr int kPausesPerLook = 16;  // at the clock
// More parts than threads, so that a thread that is held up holds up less.
constexpr int64_t kPartsPerThread = 2;
constexpr int32_t kMostThreads = 1024;  // parts fit 16 bits

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

/// Cores that this process may use.
int32_t usable_cores() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return static_cast<int32_t>(std::max(1u, std::thread::hardware_concurrency()));
}

/// Whether `value` differs from `old` within some pauses.
bool changes(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kPausesPerLook; ++i) {
    if (value.load(std::memory_order_acquire) != old) return true;
    _mm_pause();
  }
  return false;
}

/// Returns when `value` differs from `old`: spins for a while, then sleeps in the kernel.
void wait_while(const std::atomic<uint32_t>& value, uint32_t old, std::chrono::microseconds spin) {
  if (changes(value, old)) return;  // most often, and without a look at the clock
  const auto end = std::chrono::steady_clock::now() + spin;
  do {
    if (changes(value, old)) return;
  } while (std::chrono::steady_clock::now() < end);
  value.wait(old, std::memory_order_acquire);
}

}  // namespace

struct ThreadTeam::Impl {
  explicit Impl(int32_t threads)
      : num_threads(threads), spin(threads <= usable_cores() ? kSpin : kSpinCrowded) {
    for (int32_t i = 1; i < threads; ++i) workers.emplace_back([this, i] { work(i); });
  }

  ~Impl() {
    stopping.store(true, std::memory_order_relaxed);
    epoch.fetch_add(1, std::memory_order_release);
    epoch.notify_all();
    for (std::thread& worker : workers) worker.join();
  }

  /// Worker `index`; number 0 is the caller, who is nobody's to move.
  void work(int32_t index) {
    stay_on_numa_node(index, num_threads);
    const FlushDenormals flush;
    uint32_t seen = 0;
    while (true) {
      wait_while(epoch, seen, spin);
      // Before the ticket is read: a call that comes after it raises the epoch again.
      seen = epoch.load(std::memory_order_acquire);
      if (stopping.load(std::memory_order_relaxed)) return;
      run_parts();
    }
  }

  /// Claims parts of the call under way until none is left.
  void run_parts() {
    uint64_t now = ticket.load(std::memory_order_acquire);
    while (next_of(now) < parts_of(now)) {
      if (!ticket.compare_exchange_weak(now, now + 1, std::memory_order_acq_rel)) continue;
      // The call can't end before this part is done, so its fields stand still from here on.
      run_part(next_of(now), parts_of(now));
      if (left.fetch_sub(1, std::memory_order_acq_rel) == 1) left.notify_one();
      now = ticket.load(std::memory_order_acquire);
    }
  }

  void run_part(int64_t part, int64_t parts) const {
    const int64_t units = (count + grain - 1) / grain;
    const int64_t begin = units * part / parts * grain;
    const int64_t end = std::min(count, units * (part + 1) / parts * grain);
    (*fn)(begin, end);
  }

  void run(int64_t total, int64_t step, const RangeFn& range_fn) {
    const int64_t units = (total + step - 1) / step;
    if (num_threads == 1 || units == 1) {
      range_fn(0, total);
      return;
    }
    count = total;
    grain = step;
    fn = &range_fn;
    const auto parts = static_cast<uint32_t>(std::min(units, kPartsPerThread * num_threads));
    left.store(parts, std::memory_order_relaxed);
    const uint32_t call = epoch.load(std::memory_order_relaxed) + 1;
    ticket.store(make_ticket(call, parts), std::memory_order_release);
    epoch.store(call, std::memory_order_release);
    epoch.notify_all();
    run_parts();
    while (true) {
      const uint32_t rest = left.load(std::memory_order_acquire);
      if (rest == 0) return;
      wait_while(left, rest, spin);
    }
  }

  // A ticket names a call, how many parts it has and which is next, in one word: a claim by a
  // worker that comes too late, in another call, fails or is a claim in that call.
  static uint64_t make_ticket(uint32_t call, uint32_t parts) {
    return (uint64_t{call} << 32) | (uint64_t{parts} << 16);
  }
  static uint32_t parts_of(uint64_t value) { return static_cast<uint32_t>(value >> 16) & 0xffffu; }
  static uint32_t next_of(uint64_t value) { return static_cast<uint32_t>(value) & 0xffffu; }

  const int32_t num_threads;
  const std::chrono::microseconds spin;  // before a wait sleeps
  // The call under way; written before `ticket`, read after a claim.
  int64_t count = 0, grain = 1;
  const RangeFn* fn = nullptr;
  std::atomic<bool> stopping{false};

  std::atomic<uint32_t> epoch{0};
  alignas(64) std::atomic<uint64_t> ticket{0};
  alignas(64) std::atomic<uint32_t> left{0};
  std::atomic<bool> busy{false};
  std::vector<std::thread> workers;
};

ThreadTeam::ThreadTeam(int32_t threads) {
  MOLE_CHECK_GE(threads, 0);
  MOLE_CHECK_LE(threads, kMostThreads);
  impl_ = std::make_unique<Impl>(threads == 0 ? std::min(usable_cores(), kMostThreads) : threads);
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
