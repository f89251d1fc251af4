// Values of a span in the tile order of the matrix units.
#pragma once

#include "kernels/attention/span_pack.h"

namespace mole::kernels::MOLE_ISA {

/// Elements of a packed block: 32 keys by kChunkColumns columns.
inline constexpr int64_t kValueBlock = kChunkTiles * kTileElements;

/// Columns [column, column + 64) of the values of keys [32 block, 32 block + 32) as tiles [4][16
/// pairs of keys][16 columns][2]; keys from `seen` on, and columns past value_dim, are zeros. Pairs
/// of tiles of which no column is inside are left out.
inline void pack_block(const SpanKeys& span, int64_t seen, int64_t column, int64_t value_dim,
                       int64_t block, BFloat16* out) {
  const int64_t begin = 32 * block, left = value_dim - column;
  if (seen - begin >= 32 && left >= kChunkColumns) {
    const BFloat16* row = span.value(begin) + column;
    const int64_t stride = span.value_stride;
#pragma GCC unroll 2
    for (int64_t pair = 0; pair < 16; ++pair, row += 2 * stride, out += 32) {
      store_column_pairs(load_row32(row), load_row32(row + stride), out, out + kTileElements);
      store_column_pairs(load_row32(row + 32), load_row32(row + stride + 32),
                         out + 2 * kTileElements, out + 3 * kTileElements);
    }
    return;
  }
  for (int64_t at = 0; at < kChunkColumns && at < left; at += 32, out += 2 * kTileElements) {
    BFloat16* to = out;
    for (int64_t j = begin; j < begin + 32; j += 2, to += 32) {
      auto row = [&](int64_t key) {
        return key < seen ? load_row32(span.value(key) + column + at, left - at) : zero_row32();
      };
      store_column_pairs(row(j), row(j + 1), to, to + kTileElements);
    }
  }
}

/// Values of one chunk of columns as the products take them, block by block.
class ChunkValues {
 public:
  /// Packs as they are asked for, into `memory` of `slots` blocks.
  ChunkValues(const SpanKeys& span, int64_t seen, int64_t column, int64_t value_dim,
              BFloat16* memory, int64_t slots)
      : span_(&span),
        seen_(seen),
        column_(column),
        value_dim_(value_dim),
        memory_(memory),
        slots_(slots) {}
  /// What another one has packed, every block of it.
  explicit ChunkValues(BFloat16* memory) : memory_(memory), slots_(kSpanBlocks) {}

  const BFloat16* block(int64_t index) const {
    BFloat16* out = memory_ + index % slots_ * kValueBlock;
    if (span_ != nullptr) pack_block(*span_, seen_, column_, value_dim_, index, out);
    return out;
  }

 private:
  const SpanKeys* span_ = nullptr;
  int64_t seen_ = 0, column_ = 0, value_dim_ = 0;
  BFloat16* memory_;
  int64_t slots_;
};

/// One more than the last key in [begin, end) whose value holds an infinity or a NaN; 0 if none.
inline int64_t end_of_broken(const SpanKeys& span, int64_t begin, int64_t end, int64_t value_dim) {
  for (int64_t j = end; j > begin; --j) {
    const BFloat16* value = span.value(j - 1);
    for (int64_t d = 0; d < value_dim; d += 32) {
      if (has_infinity_or_nan(load_row32(value + d, value_dim - d))) return j;
    }
  }
  return 0;
}

}  // namespace mole::kernels::MOLE_ISA
