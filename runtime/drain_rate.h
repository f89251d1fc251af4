// How fast the queue empties: what a refused client is told about when to come again. Pure, with
// time as a value. Thread: `left` the engine's; `retry_after_ms` any.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/clock.h"
#include "runtime/limits.h"

namespace mole::runtime {

class DrainRate {
 public:
  /// A request left the queue at `now_us` while others waited behind it (else the gap says how
  /// rarely clients ask, not how fast we are).
  void left(TimeUs now_us, bool others_waited) {
    const TimeUs last = last_us_.exchange(now_us);
    if (last < 0 || !others_waited) return;
    const TimeUs gap = std::max<TimeUs>(now_us - last, 1);
    const TimeUs mean = mean_gap_us_;
    mean_gap_us_ = mean < 0 ? gap : mean + (gap - mean) / kSmoothing;
  }

  /// Until about `waiting` requests have left, in milliseconds, within the bounds of limits.h.
  int64_t retry_after_ms(TimeUs now_us, int64_t waiting) const {
    const TimeUs mean = mean_gap_us_, last = last_us_;
    if (mean < 0) return kUnknownMs;
    // A queue that stands still is slower than it used to be.
    const TimeUs gap = std::max(mean, now_us - last);
    const double total_ms = static_cast<double>(gap) * static_cast<double>(waiting) / 1000.0;
    return std::clamp(static_cast<int64_t>(std::min(total_ms, 1e12)), kRetryAfterMsMin,
                      kRetryAfterMsMax);
  }

 private:
  static constexpr int64_t kSmoothing = 8;     // the mean forgets over about that many requests
  static constexpr int64_t kUnknownMs = 1000;  // nothing measured yet
  std::atomic<TimeUs> last_us_{-1};
  std::atomic<TimeUs> mean_gap_us_{-1};
};

}  // namespace mole::runtime
