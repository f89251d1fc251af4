// linear with int8 factors by TDPBSSD: at most 16 rows by one panel at a time, as one stream from
// memory whose tiles take turns in four sums; more rows by 2 by 2 tiles. Integer sums are exact, so
// the order of k is free.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/linear/int8_finish.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kSums = kTileRows * kPanel;     // of a tile
constexpr int kTileStride = 64;                   // bytes
constexpr int64_t kTurnBytes = int64_t{1} << 20;  // of x at a time

inline void prefetch_int8_tile(const std::byte* tile) {
  const char* line = reinterpret_cast<const char*>(tile);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm_prefetch(line + 64 * i, _MM_HINT_T0);
}

/// Four sums (the tiles in turn) of 16 rows by one panel, to `sums` one after the other.
void one_stream(const int8_t* x, int64_t stride, const std::byte* w, int64_t tiles, int32_t* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  constexpr int64_t kAhead = 4 * kInt8Tile;
  int64_t t = 0;
  for (; t + 4 <= tiles; t += 4, x += 4 * kInt8TileK, w += 4 * kInt8Tile) {
    prefetch_int8_tile(w + kAhead);
    _tile_stream_loadd(5, w, kTileStride);
    _tile_loadd(4, x, stride);
    _tile_dpbssd(0, 4, 5);
    prefetch_int8_tile(w + kAhead + kInt8Tile);
    _tile_stream_loadd(6, w + kInt8Tile, kTileStride);
    _tile_loadd(7, x + kInt8TileK, stride);
    _tile_dpbssd(1, 7, 6);
    prefetch_int8_tile(w + kAhead + 2 * kInt8Tile);
    _tile_stream_loadd(5, w + 2 * kInt8Tile, kTileStride);
    _tile_loadd(4, x + 2 * kInt8TileK, stride);
    _tile_dpbssd(2, 4, 5);
    prefetch_int8_tile(w + kAhead + 3 * kInt8Tile);
    _tile_stream_loadd(6, w + 3 * kInt8Tile, kTileStride);
    _tile_loadd(7, x + 3 * kInt8TileK, stride);
    _tile_dpbssd(3, 7, 6);
  }
  for (; t < tiles; ++t, x += kInt8TileK, w += kInt8Tile) {
    _tile_loadd(4, x, stride);
    _tile_loadd(5, w, kTileStride);
    _tile_dpbssd(0, 4, 5);
  }
  _tile_stored(0, sums, kTileStride);
  _tile_stored(1, sums + kSums, kTileStride);
  _tile_stored(2, sums + 2 * kSums, kTileStride);
  _tile_stored(3, sums + 3 * kSums, kTileStride);
}

/// R blocks of 16 rows by P panels (each 1 or 2) over `tiles` tiles; tile (r, p)'s sums to
/// sums + (r * P + p) * kSums.
template <int R, int P>
void squares(const int8_t* x, int64_t stride, const std::byte* w, int64_t panel_bytes,
             int64_t tiles, int32_t* sums) {
  _tile_zero(0);
  if constexpr (P > 1) _tile_zero(1);
  if constexpr (R > 1) _tile_zero(2);
  if constexpr (R > 1 && P > 1) _tile_zero(3);
  const int64_t lower = kTileRows * stride;
  for (int64_t t = 0; t < tiles; ++t, x += kInt8TileK, w += kInt8Tile) {
    _tile_loadd(4, x, stride);
    _tile_loadd(6, w, kTileStride);
    _tile_dpbssd(0, 4, 6);
    if constexpr (P > 1) {
      _tile_loadd(7, w + panel_bytes, kTileStride);
      _tile_dpbssd(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, x + lower, stride);
      _tile_dpbssd(2, 5, 6);
    }
    if constexpr (R > 1 && P > 1) _tile_dpbssd(3, 5, 7);
  }
  _tile_stored(0, sums, kTileStride);
  if constexpr (P > 1) _tile_stored(1, sums + kSums, kTileStride);
  if constexpr (R > 1) _tile_stored(2, sums + P * kSums, kTileStride);
  if constexpr (R > 1 && P > 1) _tile_stored(3, sums + 3 * kSums, kTileStride);
}

class Int8Part {
 public:
  Int8Part(const LinearArgs& args, const LinearPart& part)
      : args_(args), part_(part), panels_(*args.weight) {
    const int64_t wanted = ceil_div(part.row_end - part.row_begin, kTileRows) * kTileRows;
    const int64_t fit = kTurnBytes / std::max<int64_t>(1, args.weight->k());
    turn_ = std::min(wanted, std::clamp(fit / kRowUnit * kRowUnit, kRowUnit, int64_t{512}));
    x_ = int8_rows_in_scratch(*args.weight, turn_);
  }

  void run() {
    const Tiles tiles;
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turn_) {
      const int64_t count = std::min(turn_, part_.row_end - row);
      quantize_rows(args_, row, count, x_);
      if (count <= kTileRows) {
        for (int64_t p = part_.panel_begin; p < part_.panel_end; ++p) few_rows(row, count, p);
      } else {
        for (int64_t p = part_.panel_begin; p < part_.panel_end; p += 2) {
          for (int64_t i = 0; i < count; i += 2 * kTileRows) {
            prefetch_next(p, i, count);
            many_rows(row, i, std::min(2 * kTileRows, count - i), p);
          }
        }
      }
    }
  }

 private:
  /// The next two panels, a slice with each block of rows, to the second-level cache.
  void prefetch_next(int64_t panel, int64_t first, int64_t count) const {
    const int64_t last = std::min(panel + 4, part_.panel_end);
    const int64_t bytes = std::max<int64_t>(0, last - panel - 2) * panels_.bytes;
    const auto* next = reinterpret_cast<const char*>(panels_.panel(panel + 2));
    const int64_t end = std::min(bytes, (first + 2 * kTileRows) * bytes / count);
    for (int64_t i = first * bytes / count / 64 * 64; i < end; i += 64) {
      _mm_prefetch(next + i, _MM_HINT_T1);
    }
  }

  void few_rows(int64_t row, int64_t count, int64_t panel) {
    for (int64_t run = 0; run < x_.runs; ++run) {
      one_stream(x_.codes + run * x_.run, x_.stride, panels_.codes(panel, run), panels_.run_tiles(),
                 sums_);
      for (int64_t i = 0; i < count; ++i) {
        const int32_t* sums = sums_ + i * kPanel;
        const I32x16 sum = add16(add16(load_int16(sums), load_int16(sums + kSums)),
                                 add16(load_int16(sums + 2 * kSums), load_int16(sums + 3 * kSums)));
        finish(sum, i, run, panel, totals_ + i * kPanel);
      }
    }
    if (x_.runs == 0) std::fill(totals_, totals_ + kSums, 0.0f);
    store_rows(args_, row, count, panel, totals_);
  }

  /// At most 32 rows (from the turn's row `first` on) by at most 2 panels.
  void many_rows(int64_t row, int64_t first, int64_t rows, int64_t panel) {
    const int64_t panels = std::min(int64_t{2}, part_.panel_end - panel);
    for (int64_t run = 0; run < x_.runs; ++run) {
      const int8_t* x = x_.codes + first * x_.stride + run * x_.run;
      const std::byte* w = panels_.codes(panel, run);
      const int64_t tiles = panels_.run_tiles(), step = panels_.bytes;
      if (rows > kTileRows) {
        panels == 2 ? squares<2, 2>(x, x_.stride, w, step, tiles, sums_)
                    : squares<2, 1>(x, x_.stride, w, step, tiles, sums_);
      } else {
        panels == 2 ? squares<1, 2>(x, x_.stride, w, step, tiles, sums_)
                    : squares<1, 1>(x, x_.stride, w, step, tiles, sums_);
      }
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t p = 0; p < panels; ++p) {
          const int64_t from = (i / kTileRows * panels + p) * kSums + i % kTileRows * kPanel;
          finish(load_int16(sums_ + from), first + i, run, panel + p,
                 totals_ + (p * 2 * kTileRows + i) * kPanel);
        }
      }
    }
    if (x_.runs == 0) std::fill(totals_, totals_ + 4 * kSums, 0.0f);
    for (int64_t p = 0; p < panels; ++p) {
      store_rows(args_, row + first, rows, panel + p, totals_ + p * 2 * kSums);
    }
  }

  /// Sixteen sums of the turn's row i to `total`.
  void finish(I32x16 sum, int64_t i, int64_t run, int64_t panel, float* total) const {
    const float scale = x_.scales[i * x_.runs + run];
    const float* scales = panels_.scales(panel, run);
    if (panels_.format == WeightFormat::kInt8)
      return store16(total, finish_run(sum, scale, scales));
    const F32x16 before = run == 0 ? zero16() : load16(total);
    store16(total, finish_group(sum, scale, scales, before));
  }

  const LinearArgs& args_;
  const LinearPart& part_;
  Int8Panels panels_;
  int64_t turn_ = 0;
  Int8Rows x_;
  alignas(64) int32_t sums_[4 * kSums];
  alignas(64) float totals_[4 * kSums];
};

}  // namespace
}  // namespace avx512

void linear_int8_amx(const LinearArgs& args, const LinearPart& part) {
  avx512::Int8Part(args, part).run();
}

}  // namespace mole::kernels
