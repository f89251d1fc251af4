#include "base/checksum.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace mole {
namespace {

constexpr size_t kLanes = 8;  // hides the multiplication's latency
constexpr size_t kWord = sizeof(uint64_t);

// Odd factor, xor with a rotation-free shift: each is invertible, so the round is.
inline uint64_t round(uint64_t lane, uint64_t word) {
  lane = (lane ^ word) * 0x9E3779B97F4A7C15u;
  return lane ^ (lane >> 32);
}

}  // namespace

uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed) {
  uint64_t lanes[kLanes];
  for (size_t i = 0; i < kLanes; ++i) lanes[i] = round(seed, i + 1);
  const std::byte* at = bytes.data();
  size_t left = bytes.size();
  for (; left >= kLanes * kWord; left -= kLanes * kWord, at += kLanes * kWord) {
    uint64_t words[kLanes];
    std::memcpy(words, at, sizeof(words));
    for (size_t i = 0; i < kLanes; ++i) lanes[i] = round(lanes[i], words[i]);
  }
  for (size_t i = 0; left > 0; ++i) {
    uint64_t word = 0;
    const size_t count = std::min(left, kWord);
    std::memcpy(&word, at, count);
    lanes[i] = round(lanes[i], word);
    at += count;
    left -= count;
  }
  uint64_t sum = round(seed, bytes.size());
  for (const uint64_t lane : lanes) sum = round(std::rotl(sum, 17), lane);
  return sum;
}

}  // namespace mole
