// linear with int8 factors by TDPBSSD. Up to 32 rows: panels side by side, as many as there are
// tiles for sums, each prefetched: the weight's way from memory is what counts. More rows: 2 by 2
// tiles, the next pair of panels on its way to the second-level cache.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/linear/int8_finish.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int64_t kSums = kTileRows * kPanel;     // of a tile
constexpr int kTileStride = 64;                   // bytes
constexpr int64_t kTurnBytes = int64_t{1} << 20;  // of x at a time
constexpr int64_t kSumTiles = 6;                  // panels side by side, times blocks of rows
constexpr int64_t kAhead = 3 * kInt8Tile;         // bytes ahead of the reader in each panel

inline void prefetch_int8_tile(const std::byte* tile) {
  const char* line = reinterpret_cast<const char*>(tile);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm_prefetch(line + 64 * i, _MM_HINT_T0);
}

/// A run of k of consecutive panels, and x for it.
struct Int8Stream {
  const int8_t* x;  // 16 rows, or 32
  int64_t stride;   // of x, bytes
  const std::byte* w;
  int64_t panel;  // bytes from one panel to the next
  int64_t left;   // bytes of the panel from w on
  int64_t tiles;
};

// Tile numbers are part of the instructions, so these are macros. Sums in tiles 0 … 5: first those
// of the upper 16 rows (one a panel), then those of the lower; x in tile 6, the weight in tile 7,
// the only one that always has 16 rows.
#define MOLE_INT8_UPPER(S)                             \
  if constexpr (P > S) {                               \
    prefetch_int8_tile(w + S * stream.panel + ahead);  \
    _tile_loadd(7, w + S * stream.panel, kTileStride); \
    _tile_dpbssd(S, 6, 7);                             \
  }
#define MOLE_INT8_LOWER(S, T)                          \
  if constexpr (P > S) {                               \
    _tile_loadd(7, w + S * stream.panel, kTileStride); \
    _tile_dpbssd(T, 6, 7);                             \
  }
#define MOLE_INT8_STORE(S) \
  if constexpr (R * P > S) _tile_stored(S, sums + S * kSums, kTileStride)

/// R blocks of 16 rows by P panels, R * P <= 6: the sums of block r and panel p to
/// sums + (r * P + p) * kSums.
template <int R, int P>
void stream_int8(const Int8Stream& stream, int32_t* sums) {
  static_assert(R == 1 || P <= 3);
  _tile_zero(0);
  if constexpr (R * P > 1) _tile_zero(1);
  if constexpr (R * P > 2) _tile_zero(2);
  if constexpr (R * P > 3) _tile_zero(3);
  if constexpr (R * P > 4) _tile_zero(4);
  if constexpr (R * P > 5) _tile_zero(5);
  const int8_t* x = stream.x;
  const std::byte* w = stream.w;
  for (int64_t t = 0; t < stream.tiles; ++t, x += kInt8TileK, w += kInt8Tile) {
    // Past a panel's end comes the panel that will be read after it.
    const bool inside = t * kInt8Tile + kAhead < stream.left;
    const int64_t ahead = kAhead + (inside ? 0 : (P - 1) * stream.panel);
    _tile_loadd(6, x, stream.stride);
    MOLE_INT8_UPPER(0)
    MOLE_INT8_UPPER(1)
    MOLE_INT8_UPPER(2)
    MOLE_INT8_UPPER(3)
    MOLE_INT8_UPPER(4)
    MOLE_INT8_UPPER(5)
    if constexpr (R == 2) {
      _tile_loadd(6, x + kTileRows * stream.stride, stream.stride);
      if constexpr (P == 1) {
        MOLE_INT8_LOWER(0, 1)
      } else if constexpr (P == 2) {
        MOLE_INT8_LOWER(0, 2)
        MOLE_INT8_LOWER(1, 3)
      } else {
        MOLE_INT8_LOWER(0, 3)
        MOLE_INT8_LOWER(1, 4)
        MOLE_INT8_LOWER(2, 5)
      }
    }
  }
  MOLE_INT8_STORE(0);
  MOLE_INT8_STORE(1);
  MOLE_INT8_STORE(2);
  MOLE_INT8_STORE(3);
  MOLE_INT8_STORE(4);
  MOLE_INT8_STORE(5);
}
#undef MOLE_INT8_UPPER
#undef MOLE_INT8_LOWER
#undef MOLE_INT8_STORE

template <int R, int P = kSumTiles / R>
void stream_int8(const Int8Stream& stream, int64_t panels, int32_t* sums) {
  if (panels == P) return stream_int8<R, P>(stream, sums);
  if constexpr (P > 1) stream_int8<R, P - 1>(stream, panels, sums);
}

/// R blocks of 16 rows by P panels (each 1 or 2); the sums as above.
template <int R, int P>
void squares(const Int8Stream& stream, int32_t* sums) {
  _tile_zero(0);
  if constexpr (P > 1) _tile_zero(1);
  if constexpr (R > 1) _tile_zero(2);
  if constexpr (R > 1 && P > 1) _tile_zero(3);
  const int8_t* x = stream.x;
  const std::byte* w = stream.w;
  for (int64_t t = 0; t < stream.tiles; ++t, x += kInt8TileK, w += kInt8Tile) {
    _tile_loadd(4, x, stream.stride);
    _tile_loadd(6, w, kTileStride);
    _tile_dpbssd(0, 4, 6);
    if constexpr (P > 1) {
      _tile_loadd(7, w + stream.panel, kTileStride);
      _tile_dpbssd(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, x + kTileRows * stream.stride, stream.stride);
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
      : args_(args), part_(part), panels_(*args.weight), turns_(args, part, turn_rows(args)) {}

  void run() {
    const int64_t most = std::min(turns_.rows(), part_.row_end - part_.row_begin);
    const Tiles tiles(std::min(most, kTileRows));
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turns_.rows()) {
      const int64_t count = std::min(turns_.rows(), part_.row_end - row);
      x_ = turns_.take(row, count);
      if (count <= 2 * kTileRows) {
        const int64_t step = count <= kTileRows ? kSumTiles : kSumTiles / 2;
        for (int64_t p = part_.panel_begin; p < part_.panel_end; p += step) {
          some_rows(row, 0, count, p, std::min(step, part_.panel_end - p), true);
        }
        continue;
      }
      for (int64_t p = part_.panel_begin; p < part_.panel_end; p += 2) {
        for (int64_t i = 0; i < count; i += 2 * kTileRows) {
          prefetch_next(p, i, count);
          some_rows(row, i, std::min(2 * kTileRows, count - i), p,
                    std::min(int64_t{2}, part_.panel_end - p), false);
        }
      }
    }
  }

 private:
  static int64_t turn_rows(const LinearArgs& args) {
    const int64_t fit = kTurnBytes / std::max<int64_t>(1, args.weight->k());
    return std::clamp(fit / kRowUnit * kRowUnit, kRowUnit, int64_t{512});
  }

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

  /// At most 32 rows (from the turn's row `first` on) by some panels, as a stream or as a square.
  void some_rows(int64_t row, int64_t first, int64_t rows, int64_t panel, int64_t panels,
                 bool stream) {
    for (int64_t run = 0; run < x_.runs; ++run) {
      const std::byte* w = panels_.codes(panel, run);
      const Int8Stream from{
          x_.codes + first * x_.stride + run * x_.run, x_.stride,          w, panels_.bytes,
          panels_.bytes - (w - panels_.panel(panel)),  panels_.run_tiles()};
      stream ? stream_sums(from, rows, panels) : square_sums(from, rows, panels);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t p = 0; p < panels; ++p) {
          const int64_t at = (i / kTileRows * panels + p) * kSums + i % kTileRows * kPanel;
          finish(load_int16(sums_ + at), first + i, run, panel + p, total(p) + i * kPanel);
        }
      }
    }
    for (int64_t p = 0; p < panels; ++p) {
      if (x_.runs == 0) std::fill(total(p), total(p) + rows * kPanel, 0.0f);
      store_rows(args_, row + first, rows, panel + p, total(p));
    }
  }

  void stream_sums(const Int8Stream& from, int64_t rows, int64_t panels) {
    rows > kTileRows ? stream_int8<2>(from, panels, sums_) : stream_int8<1>(from, panels, sums_);
  }
  void square_sums(const Int8Stream& from, int64_t rows, int64_t panels) {
    if (rows > kTileRows) {
      panels == 2 ? squares<2, 2>(from, sums_) : squares<2, 1>(from, sums_);
    } else {
      panels == 2 ? squares<1, 2>(from, sums_) : squares<1, 1>(from, sums_);
    }
  }

  /// Totals of at most 32 rows of one panel.
  float* total(int64_t p) { return totals_ + p * 2 * kSums; }

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
  Int8Turns turns_;
  Int8Rows x_;
  alignas(64) int32_t sums_[kSumTiles * kSums];
  alignas(64) float totals_[kSumTiles * 2 * kSums];
};

}  // namespace
}  // namespace avx512

void linear_int8_amx(const LinearArgs& args, const LinearPart& part) {
  avx512::Int8Part(args, part).run();
}

}  // namespace mole::kernels
