// A 64-bit checksum at the speed of memory, against rot and torn writes; no defence against
// somebody who wants a collision (base/sha256.h is). Every step is one-to-one in the word it takes
// in, so a change within one 8-byte word is always seen; anything else but once in 2^64. The
// result depends on the machine's byte order: for files of one machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace mole {

/// Of `bytes` after what `seed` stands for: 0, or the checksum of the piece before. The cutting
/// into pieces matters: the same pieces give the same sum.
uint64_t checksum64(std::span<const std::byte> bytes, uint64_t seed = 0);

}  // namespace mole
