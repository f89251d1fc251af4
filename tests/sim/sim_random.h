// All choices of a simulation: a stream of numbers that follows from the seed alone.
#pragma once

#include <cstdint>
#include <vector>

#include "base/philox.h"

namespace mole::sim {

class SimRandom {
 public:
  explicit SimRandom(uint64_t seed) : seed_(seed) {}
  uint64_t bits() { return philox4x32(seed_, counter_++, 0)[0]; }
  /// In [low, high].
  int32_t between(int32_t low, int32_t high) {
    return low + static_cast<int32_t>(bits() % static_cast<uint64_t>(high - low + 1));
  }
  /// True once in `odds` times.
  bool one_in(int32_t odds) { return between(1, odds) == 1; }
  template <typename T>
  const T& pick(const std::vector<T>& values) {
    return values[bits() % values.size()];
  }

 private:
  uint64_t seed_;
  uint64_t counter_ = 0;
};

}  // namespace mole::sim
