// The inner loops of the linear_*amx.cc: sums of packed x by packed weight in tile registers,
// configured by their callers (kernels/cpu/amx_tiles.h).
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "kernels/linear/linear_impl.h"

namespace mole::kernels::avx512 {

inline constexpr int64_t kTile = kTileRows * kBlockK;  // elements of a tile of x or of the weight
inline constexpr int64_t kSums = kTileRows * kPanel;   // of a tile of sums
inline constexpr int kTileStride = 64;                 // bytes
// Panels read side by side: memory's prefetchers follow several streams faster than one, and this
// is how many tiles there are for sums.
inline constexpr int64_t kStreams = 6, kStreamsOfTwo = 3;
inline constexpr int64_t kSumTiles = 6;
// Tiles ahead of the reader in each stream.
inline constexpr int64_t kAheadTiles = 3;

/// Panels, consecutive in memory, that are read once for one or two blocks of rows.
struct Stream {
  const BFloat16* x;  // packed
  int64_t x_tile;     // elements of a tile of x
  const BFloat16* w;
  const BFloat16* next;  // what will be read afterwards: as many panels
  int64_t blocks;        // of K

  int64_t panel() const { return blocks * kTile; }
  /// Of tile `block` of the first panel, what to fetch meanwhile.
  const BFloat16* ahead(int64_t block) const {
    const int64_t later = block + kAheadTiles;
    return later < blocks ? w + later * kTile : next + (later - blocks) * kTile;
  }
};

inline void prefetch_tile(const void* tile) {
  const auto* line = reinterpret_cast<const char*>(tile);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm_prefetch(line + 64 * i, _MM_HINT_T0);
}

// Tile numbers are part of the instructions, so these are macros: sums of stream S in tile S, x in
// tile 6, weight in tile 7.
#define MOLE_STREAM_TILE(S)                     \
  if constexpr (P > S) {                        \
    prefetch_tile(ahead + S * panel);           \
    _tile_loadd(7, w + S * panel, kTileStride); \
    _tile_dpbf16ps(S, 6, 7);                    \
  }
#define MOLE_STREAM_ZERO(S) \
  if constexpr (P > S) _tile_zero(S)
#define MOLE_STREAM_STORE(S) \
  if constexpr (P > S) _tile_stored(S, sums + S * kSums, kTileStride)

/// One block of up to 16 rows by P panels; sums [P][16][16].
template <int P>
void stream_panels(const Stream& stream, float* sums) {
  MOLE_STREAM_ZERO(0);
  MOLE_STREAM_ZERO(1);
  MOLE_STREAM_ZERO(2);
  MOLE_STREAM_ZERO(3);
  MOLE_STREAM_ZERO(4);
  MOLE_STREAM_ZERO(5);
  const int64_t panel = stream.panel();
  for (int64_t block = 0; block < stream.blocks; ++block) {
    const BFloat16* w = stream.w + block * kTile;
    const BFloat16* ahead = stream.ahead(block);
    _tile_loadd(6, stream.x + block * stream.x_tile, kTileStride);
    MOLE_STREAM_TILE(0);
    MOLE_STREAM_TILE(1);
    MOLE_STREAM_TILE(2);
    MOLE_STREAM_TILE(3);
    MOLE_STREAM_TILE(4);
    MOLE_STREAM_TILE(5);
  }
  MOLE_STREAM_STORE(0);
  MOLE_STREAM_STORE(1);
  MOLE_STREAM_STORE(2);
  MOLE_STREAM_STORE(3);
  MOLE_STREAM_STORE(4);
  MOLE_STREAM_STORE(5);
}
#undef MOLE_STREAM_TILE
#undef MOLE_STREAM_ZERO
#undef MOLE_STREAM_STORE

inline void stream_panels(const Stream& stream, int64_t panels, float* sums) {
  switch (panels) {
    case 1:
      return stream_panels<1>(stream, sums);
    case 2:
      return stream_panels<2>(stream, sums);
    case 3:
      return stream_panels<3>(stream, sums);
    case 4:
      return stream_panels<4>(stream, sums);
    case 5:
      return stream_panels<5>(stream, sums);
    default:
      return stream_panels<6>(stream, sums);
  }
}

/// Two blocks of 16 rows by P panels (1 … 3); sums [2][kStreamsOfTwo][16][16]. x in tile 6 in turn;
/// the weight's tiles are read again for the second block, from the first-level cache.
template <int P>
void stream_panels_twice(const Stream& stream, float* sums) {
  _tile_zero(0);
  _tile_zero(3);
  if constexpr (P > 1) _tile_zero(1);
  if constexpr (P > 1) _tile_zero(4);
  if constexpr (P > 2) _tile_zero(2);
  if constexpr (P > 2) _tile_zero(5);
  const int64_t panel = stream.panel();
  for (int64_t block = 0; block < stream.blocks; ++block) {
    const BFloat16* x = stream.x + block * kTile;
    const BFloat16* w = stream.w + block * kTile;
    const BFloat16* ahead = stream.ahead(block);
    _tile_loadd(6, x, kTileStride);
    prefetch_tile(ahead);
    _tile_loadd(7, w, kTileStride);
    _tile_dpbf16ps(0, 6, 7);
    if constexpr (P > 1) {
      prefetch_tile(ahead + panel);
      _tile_loadd(7, w + panel, kTileStride);
      _tile_dpbf16ps(1, 6, 7);
    }
    if constexpr (P > 2) {
      prefetch_tile(ahead + 2 * panel);
      _tile_loadd(7, w + 2 * panel, kTileStride);
      _tile_dpbf16ps(2, 6, 7);
    }
    _tile_loadd(6, x + stream.blocks * kTile, kTileStride);
    if constexpr (P > 2) {
      _tile_dpbf16ps(5, 6, 7);
      _tile_loadd(7, w + panel, kTileStride);
    }
    if constexpr (P > 1) {
      _tile_dpbf16ps(4, 6, 7);
      _tile_loadd(7, w, kTileStride);
    }
    _tile_dpbf16ps(3, 6, 7);
  }
  _tile_stored(0, sums, kTileStride);
  _tile_stored(3, sums + 3 * kSums, kTileStride);
  if constexpr (P > 1) _tile_stored(1, sums + kSums, kTileStride);
  if constexpr (P > 1) _tile_stored(4, sums + 4 * kSums, kTileStride);
  if constexpr (P > 2) _tile_stored(2, sums + 2 * kSums, kTileStride);
  if constexpr (P > 2) _tile_stored(5, sums + 5 * kSums, kTileStride);
}

inline void stream_panels_twice(const Stream& stream, int64_t panels, float* sums) {
  if (panels == 1) return stream_panels_twice<1>(stream, sums);
  if (panels == 2) return stream_panels_twice<2>(stream, sums);
  stream_panels_twice<3>(stream, sums);
}

/// Where tiles of sums (float32 or int32) lie: tile (r, p) at data + r * row_step + p * panel_step,
/// its rows `stride` bytes apart; steps in bytes too.
struct SumTiles {
  void* data = nullptr;
  int64_t row_step = 0, panel_step = 0, stride = 0;
  std::byte* tile(int64_t r, int64_t p) const {
    return static_cast<std::byte*>(data) + r * row_step + p * panel_step;
  }
};
/// Two by two tiles, one after the other.
inline SumTiles packed_sums(void* data) {
  constexpr int64_t kBytes = kSums * 4;
  return {data, 2 * kBytes, kBytes, kTileStride};
}

/// Two blocks of rows by two panels over a run of K, of tiles of 1 KiB. Meanwhile `lines` lines of
/// each of the next two panels are fetched to the second-level cache with every tile, and both
/// factors' tiles to the first a few tiles ahead, past the run's end those of the next square.
struct Square {
  const std::byte* x = nullptr;
  int64_t x_block = 0;  // bytes from one block of rows to the next
  const std::byte* w = nullptr;
  int64_t panel = 0;   // bytes from one panel to the other
  int64_t blocks = 0;  // tiles over the run
  bool first = true;   // else the sums go on from `from`
  SumTiles from, to;
  const std::byte *next_x = nullptr, *next_w = nullptr;  // of the next square
  const std::byte* ahead = nullptr;                      // panels to fetch, as far from each other
  int64_t lines = 0;
};

// Tiles from the one that is multiplied to the ones that are fetched to the first-level cache. The
// fetches also lie between the matrix instructions, which a core that is shared with a busy
// hyperthread needs: without anything between them it runs them at a third of the speed.
inline constexpr int64_t kSoonTiles = 2;
inline constexpr int64_t kTileBytes = 1024;

enum class Factors { kBFloat16, kInt8 };

// sums += x * weight in one tile; the numbers are part of the instructions.
#define MOLE_MULTIPLY_TILES(SUM, X, W)       \
  do {                                       \
    if constexpr (F == Factors::kBFloat16) { \
      _tile_dpbf16ps(SUM, X, W);             \
    } else {                                 \
      _tile_dpbssd(SUM, X, W);               \
    }                                        \
  } while (false)

/// R blocks of rows (1 or 2) by P panels (1 or 2). Tiles 0-3 sums, 4-5 x, 6-7 weight.
template <Factors F, int R, int P>
void multiply(const Square& s) {
  if (s.first) {
    _tile_zero(0);
    if constexpr (P > 1) _tile_zero(1);
    if constexpr (R > 1) _tile_zero(2);
    if constexpr (R > 1 && P > 1) _tile_zero(3);
  } else {
    const auto stride = static_cast<int>(s.from.stride);
    _tile_loadd(0, s.from.tile(0, 0), stride);
    if constexpr (P > 1) _tile_loadd(1, s.from.tile(0, 1), stride);
    if constexpr (R > 1) _tile_loadd(2, s.from.tile(1, 0), stride);
    if constexpr (R > 1 && P > 1) _tile_loadd(3, s.from.tile(1, 1), stride);
  }
  const std::byte *x = s.x, *w = s.w, *ahead = s.ahead;
  const std::byte *soon_x = x + kSoonTiles * kTileBytes, *soon_w = w + kSoonTiles * kTileBytes;
  for (int64_t block = 0; block < s.blocks; ++block, x += kTileBytes, w += kTileBytes) {
    if (block + kSoonTiles == s.blocks) {
      soon_x = s.next_x;
      soon_w = s.next_w;
    }
    _tile_loadd(4, x, kTileStride);
    prefetch_tile(soon_x);
    _tile_loadd(6, w, kTileStride);
    prefetch_tile(soon_w);
    MOLE_MULTIPLY_TILES(0, 4, 6);
    if constexpr (R > 1) {
      _tile_loadd(5, x + s.x_block, kTileStride);
      prefetch_tile(soon_x + s.x_block);
      MOLE_MULTIPLY_TILES(2, 5, 6);
    }
    if constexpr (P > 1) {
      _tile_loadd(7, w + s.panel, kTileStride);
      prefetch_tile(soon_w + s.panel);
      MOLE_MULTIPLY_TILES(1, 4, 7);
    }
    for (int64_t line = 0; line < s.lines; ++line, ahead += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(ahead), _MM_HINT_T1);
      _mm_prefetch(reinterpret_cast<const char*>(ahead + s.panel), _MM_HINT_T1);
    }
    if constexpr (R > 1 && P > 1) {
      MOLE_MULTIPLY_TILES(3, 5, 7);
    }
    soon_x += kTileBytes;
    soon_w += kTileBytes;
  }
  const auto stride = static_cast<int>(s.to.stride);
  _tile_stored(0, s.to.tile(0, 0), stride);
  if constexpr (P > 1) _tile_stored(1, s.to.tile(0, 1), stride);
  if constexpr (R > 1) _tile_stored(2, s.to.tile(1, 0), stride);
  if constexpr (R > 1 && P > 1) _tile_stored(3, s.to.tile(1, 1), stride);
}
#undef MOLE_MULTIPLY_TILES

template <Factors F>
void multiply(const Square& square, bool two_blocks, bool two_panels) {
  if (two_blocks) return two_panels ? multiply<F, 2, 2>(square) : multiply<F, 2, 1>(square);
  two_panels ? multiply<F, 1, 2>(square) : multiply<F, 1, 1>(square);
}

}  // namespace mole::kernels::avx512
