// A measurement between two readings of the machine's bandwidth. On a shared host a figure without
// them says nothing: the same read took a fifth of the time within the same hour.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#include "kernels/cases/gemv_probe.h"

namespace mole::load_tests {

/// Bytes/s of the prefetched GEMV, best of three: each thread reading one place, and eight side by
/// side, which some machines serve faster. 0 = no probe.
struct ProbeReading {
  double one = 0, eight = 0;
  double best() const { return std::max(one, eight); }
};

struct Bracket {
  ProbeReading before, after;
  double one() const { return (before.one + after.one) / 2; }
  double best() const { return (before.best() + after.best()) / 2; }
  /// How far the two lie apart, as a part of the larger.
  double swing() const {
    const double a = before.best(), b = after.best(), larger = std::max(a, b);
    return larger > 0 ? (larger - std::min(a, b)) / larger : 0;
  }
};

/// More than this between the two readings, and a fraction of the probe is no claim.
inline constexpr double kSteadySwing = 0.10;

/// Thread: one, and no other work meanwhile.
class ProbeBracket {
 public:
  /// `bytes` of memory are held for the probe; 0 = measure nothing.
  ProbeBracket(int32_t threads, int64_t bytes) : team_(threads) {
    if (bytes > 0) probe_ = std::make_unique<kernels::GemvProbe>(team_, bytes);
  }

  ProbeReading read() {
    using Order = kernels::GemvProbe::Order;
    ProbeReading reading;
    for (int i = 0; probe_ != nullptr && i < 3; ++i) {
      const int64_t bytes = std::min(probe_->bytes(), kReadBytes);
      reading.one = std::max(reading.one, probe_->rate(team_, bytes, Order::kOneStream));
      reading.eight = std::max(reading.eight, probe_->rate(team_, bytes, Order::kEightStreams));
    }
    return reading;
  }

  /// Runs `measure` until the readings around it agree, at most `tries` times.
  template <typename Measure>
  Bracket around(int64_t tries, Measure measure) {
    Bracket bracket;
    for (int64_t i = 0; i < tries; ++i) {
      bracket.before = read();
      measure();
      bracket.after = read();
      if (bracket.swing() <= kSteadySwing) break;
    }
    return bracket;
  }

 private:
  static constexpr int64_t kReadBytes = int64_t{512} << 20;
  kernels::ThreadTeam team_;
  std::unique_ptr<kernels::GemvProbe> probe_;
};

}  // namespace mole::load_tests
