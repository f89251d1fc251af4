// The inner loops of linear_int8_amx.cc for few rows: panels side by side, in tile registers that
// its caller configured. The weight's way from memory is what counts.
#pragma once

#include "kernels/linear/amx_kernels.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels::avx512 {

/// A run of k of consecutive panels, and x for it in tiles.
struct Int8Stream {
  const int8_t* x;
  int64_t x_tile, x_block;  // bytes of a tile of x, and from its upper 16 rows to its lower
  const std::byte* w;
  int64_t panel;  // bytes from one panel to the next
  int64_t left;   // bytes of the panel from w on
  int64_t tiles;
};

inline constexpr int64_t kAheadBytes = kAheadTiles * kInt8Tile;

// Sums in tiles 0 … 5: first those of the upper 16 rows (one a panel), then those of the lower; x
// in tile 6, the weight in tile 7, the only one that always has 16 rows.
#define MOLE_INT8_UPPER(S)                             \
  if constexpr (P > S) {                               \
    prefetch_tile(w + S * stream.panel + ahead);       \
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
  for (int64_t t = 0; t < stream.tiles; ++t, x += stream.x_tile, w += kInt8Tile) {
    // Past a panel's end comes the panel that will be read after it.
    const bool inside = t * kInt8Tile + kAheadBytes < stream.left;
    const int64_t ahead = kAheadBytes + (inside ? 0 : (P - 1) * stream.panel);
    _tile_loadd(6, x, kTileStride);
    MOLE_INT8_UPPER(0)
    MOLE_INT8_UPPER(1)
    MOLE_INT8_UPPER(2)
    MOLE_INT8_UPPER(3)
    MOLE_INT8_UPPER(4)
    MOLE_INT8_UPPER(5)
    if constexpr (R == 2) {
      _tile_loadd(6, x + stream.x_block, kTileStride);
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

template <int R, int P = static_cast<int>(kSumTiles) / R>
void stream_int8(const Int8Stream& stream, int64_t panels, int32_t* sums) {
  if (panels == P) return stream_int8<R, P>(stream, sums);
  if constexpr (P > 1) stream_int8<R, P - 1>(stream, panels, sums);
}

}  // namespace mole::kernels::avx512
