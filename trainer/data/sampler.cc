#include "trainer/data/sampler.h"

#include <bit>

#include "base/check.h"
#include "base/philox.h"

namespace mole::trainer {
namespace {

// Counters of the two uses of Philox never meet: rounds use 0 to 3, the epoch's offset uses this.
constexpr uint64_t kOffsetDraw = 255;

constexpr int kRounds = 4;

int32_t half_bits_for(int64_t count) {
  const auto bits =
      static_cast<int32_t>(std::bit_width(static_cast<uint64_t>(count > 1 ? count - 1 : 1)));
  return (bits + 1) / 2;
}

}  // namespace

int64_t permute(int64_t value, int64_t count, int32_t half_bits, uint64_t seed, uint64_t epoch) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t x = static_cast<uint64_t>(value);
  do {
    uint64_t left = x >> half_bits, right = x & mask;
    for (uint64_t round = 0; round < kRounds; ++round) {
      const uint64_t mixed = philox4x32(seed, right, (epoch << 8) | round)[0] & mask;
      const uint64_t next = left ^ mixed;
      left = right;
      right = next;
    }
    x = (left << half_bits) | right;
  } while (x >= static_cast<uint64_t>(count));
  return static_cast<int64_t>(x);
}

WindowSampler::WindowSampler(int64_t num_tokens, int64_t window_tokens, uint64_t seed)
    : window_tokens_(window_tokens),
      windows_(num_tokens / window_tokens - 1),
      half_bits_(half_bits_for(windows_)),
      seed_(seed) {
  MOLE_CHECK_GE(window_tokens, 1);
  MOLE_CHECK_GE(windows_, 1);
}

int64_t WindowSampler::window_begin(int64_t cursor) const {
  const uint64_t epoch = static_cast<uint64_t>(cursor / windows_);
  const uint64_t draw = philox4x32(seed_, 0, (epoch << 8) | kOffsetDraw)[0];
  const int64_t offset = static_cast<int64_t>(draw % static_cast<uint64_t>(window_tokens_));
  const int64_t window = permute(cursor % windows_, windows_, half_bits_, seed_, epoch);
  return offset + window * window_tokens_;
}

}  // namespace mole::trainer
