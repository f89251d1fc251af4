// The loop of linear_pairs_amx.cc and linear_pairs_int8_amx.cc: squares of two panels that lie
// apart, over all rows of a product whose x stays in the second-level cache.
#pragma once

#include <algorithm>

#include "kernels/linear/amx_kernels.h"

namespace mole::kernels::avx512 {

struct PairLoop {
  const std::byte* x = nullptr;  // tiles
  int64_t x_block = 0;           // bytes from one block of 16 rows to the next
  int64_t rows = 0;
  const std::byte* weight = nullptr;
  int64_t panel = 0;   // bytes from one panel to the next
  int64_t blocks = 0;  // tiles over K
  void* sums = nullptr;
};

/// Calls `done(panel, row, rows)` when the sums of up to 32 rows are in loop.sums, as packed_sums
/// has them. The tile registers are configured.
template <Factors F, typename Done>
void for_pairs(const PairLoop& loop, const PanelPairs& pairs, const Done& done) {
  Square square;
  square.x_block = loop.x_block;
  square.panel = pairs.distance * loop.panel;
  square.blocks = loop.blocks;
  square.to = packed_sums(loop.sums);
  square.lines = ceil_div(kTileRows, ceil_div(loop.rows, 2 * kTileRows));
  for (int64_t panel = pairs.panel_begin; panel < pairs.panel_end; ++panel) {
    square.w = loop.weight + panel * loop.panel;
    const bool last = panel + 1 == pairs.panel_end && pairs.next != nullptr;
    const std::byte* const next = last ? pairs.next : square.w + loop.panel;
    square.ahead = next;
    for (int64_t row = 0; row < loop.rows; row += 2 * kTileRows) {
      const int64_t rows = std::min(2 * kTileRows, loop.rows - row);
      const bool more = row + 2 * kTileRows < loop.rows;
      square.x = loop.x + row / kTileRows * loop.x_block;
      square.next_x = more ? square.x + 2 * loop.x_block : loop.x;
      square.next_w = more ? square.w : next;
      multiply<F>(square, rows > kTileRows, true);
      square.ahead += square.blocks * square.lines * 64;
      done(panel, row, rows);
    }
  }
}

/// The square's float32 sums to `sink`, 16 rows at a time.
inline void sink_square(const float* sums, int64_t panel, int64_t row, int64_t rows,
                        const PairSink& sink) {
  for (int64_t r = 0; r < rows; r += kTileRows) {
    const float* first = sums + r / kTileRows * 2 * kSums;
    sink({panel, row + r, std::min(kTileRows, rows - r), first, first + kSums});
  }
}

}  // namespace mole::kernels::avx512
