// Time as the engine sees it. The scheduler gets a time value, never a clock; whoever needs a clock
// takes this interface, so that the simulation can turn it by hand. Steady: never steps back.
#pragma once

#include <chrono>
#include <cstdint>

namespace mole {

/// Microseconds of a steady clock with an arbitrary start.
using TimeUs = int64_t;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimeUs now_us() const = 0;
};

class SteadyClock final : public Clock {
 public:
  TimeUs now_us() const override {
    using std::chrono::duration_cast, std::chrono::microseconds, std::chrono::steady_clock;
    return duration_cast<microseconds>(steady_clock::now().time_since_epoch()).count();
  }
};

/// Turned by hand, for tests and the simulation.
class ManualClock final : public Clock {
 public:
  TimeUs now_us() const override { return now_us_; }
  void advance_us(TimeUs by) { now_us_ += by; }

 private:
  TimeUs now_us_ = 0;
};

}  // namespace mole
