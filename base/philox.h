// Philox4x32-10, a counter-based random generator: the n-th draw of a key is a pure function, so a
// random choice depends on (seed, position) and never on what else was drawn, when, or where.
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC'11), Philox4x32 with
// 10 rounds; the constants are that paper's.
#pragma once

#include <array>
#include <cstdint>

namespace mole {

/// Four independent uniform 32-bit words for (key, counter). Pure.
inline std::array<uint32_t, 4> philox4x32(uint64_t key, uint64_t counter_lo, uint64_t counter_hi) {
  uint32_t c0 = static_cast<uint32_t>(counter_lo), c1 = static_cast<uint32_t>(counter_lo >> 32);
  uint32_t c2 = static_cast<uint32_t>(counter_hi), c3 = static_cast<uint32_t>(counter_hi >> 32);
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c0;
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {c0, c1, c2, c3};
}

/// Uniform double in [0, 1) with 53 random bits.
inline double philox_uniform(uint64_t key, uint64_t counter_lo, uint64_t counter_hi) {
  const auto words = philox4x32(key, counter_lo, counter_hi);
  const uint64_t bits = (uint64_t{words[0]} << 21) ^ (uint64_t{words[1]} >> 11);
  return static_cast<double>(bits & ((uint64_t{1} << 53) - 1)) * 0x1.0p-53;
}

}  // namespace mole
