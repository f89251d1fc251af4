// From a thread's number to its piece of work. Plain arithmetic, so that it is tested without a
// GPU.
#pragma once

#include <cstdint>

#include "kernels/cuda/device_math.h"

namespace mole::kernels::device {

inline constexpr int kThreads = 256;  // of every block
inline constexpr int kLanes = 16;     // threads that share a row in rms_norm, one a chain
inline constexpr int kRowsPerBlock = kThreads / kLanes;

MOLE_DEVICE constexpr int64_t blocks_for(int64_t work, int64_t per_block) {
  return (work + per_block - 1) / per_block;
}

/// Global number of a thread.
MOLE_DEVICE constexpr int64_t thread_number(int64_t block, int64_t thread) {
  return block * kThreads + thread;
}

/// rms_norm: the row that a thread works for, and its chain.
struct RowLane {
  int64_t row, lane;
};
MOLE_DEVICE constexpr RowLane row_lane(int64_t block, int64_t thread) {
  return {block * kRowsPerBlock + thread / kLanes, thread % kLanes};
}

/// rope: thread number -> row, head and pair; pairs of one head are neighbours.
struct RopePlace {
  int64_t row, head, pair;
};
MOLE_DEVICE constexpr RopePlace rope_place(int64_t number, int64_t heads, int64_t pairs) {
  return {number / pairs / heads, number / pairs % heads, number % pairs};
}

/// Offsets of a pair's two elements within a head.
struct PairOffsets {
  int64_t a, b;
};
MOLE_DEVICE constexpr PairOffsets pair_offsets(bool interleaved, int64_t pair, int64_t pairs) {
  return interleaved ? PairOffsets{2 * pair, 2 * pair + 1} : PairOffsets{pair, pair + pairs};
}

}  // namespace mole::kernels::device
