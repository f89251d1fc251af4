// linear for bfloat16 with AMX: 2 by 2 tiles of 16 by 16 sums, or 1 by 4 where there are at most 16
// rows. x is first packed into tiles (16 rows by 32 k, 1 KiB each): rows at a large stride would
// fall into the same cache sets, and edges are filled with zeros there.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/transpose.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kTile = kTileRows * kBlockK;  // elements of a tile of x or of the weight
constexpr int kTileStride = 64;                 // bytes
// Packed x of one turn: it stays in the second-level cache beside the weight's panels.
constexpr int64_t kTurnBytes = int64_t{1} << 20;

/// 16 rows by 32 k from row-major x; rows and k past the end are zeros.
void pack_tile(const LinearArgs& args, int64_t row, int64_t count, int64_t k0, BFloat16* out) {
  const int64_t depth = std::min(kBlockK, args.weight->k() - k0);
  const auto mask = static_cast<__mmask32>((uint64_t{1} << depth) - 1);
  for (int64_t i = 0; i < kTileRows; ++i) {
    __m512i line = _mm512_setzero_si512();
    if (i < count) {
      const auto* x =
          static_cast<const BFloat16*>(args.x) + memory_row(args, row + i) * args.x_stride + k0;
      line = _mm512_maskz_loadu_epi16(mask, x);
    }
    _mm512_store_si512(out + i * kBlockK, line);
  }
}

/// The same from transposed x.
void pack_tile_transposed(const LinearArgs& args, int64_t row, int64_t count, int64_t k0,
                          BFloat16* out) {
  const int64_t depth = std::min(kBlockK, args.weight->k() - k0);
  const auto* x = static_cast<const BFloat16*>(args.x) + row;
  const auto mask = static_cast<__mmask16>((1u << count) - 1);
  auto line = [&](int64_t k) {
    if (k >= depth) return _mm512_setzero_si512();
    const BFloat16* from = x + memory_row(args, k0 + k) * args.x_stride;
    return _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
  };
  __m512i pairs[16], turned[16];
  for (int64_t pair = 0; pair < 16; ++pair) {
    pairs[pair] = _mm512_or_si512(line(2 * pair), _mm512_slli_epi32(line(2 * pair + 1), 16));
  }
  transpose16(pairs, turned);
  for (int64_t i = 0; i < kTileRows; ++i) _mm512_store_si512(out + i * kBlockK, turned[i]);
}

/// Rows [row, row + count) as blocks of 16, each a run of tiles over k.
void pack_x(const LinearArgs& args, int64_t row, int64_t count, int64_t blocks, BFloat16* out) {
  if (args.x_transposed) {
    // Along the lines of memory: a line holds the same k of many rows.
    for (int64_t block = 0; block < blocks; ++block) {
      for (int64_t i = 0; i < count; i += kTileRows) {
        pack_tile_transposed(args, row + i, std::min(kTileRows, count - i), block * kBlockK,
                             out + (i / kTileRows * blocks + block) * kTile);
      }
    }
    return;
  }
  for (int64_t i = 0; i < count; i += kTileRows) {
    for (int64_t block = 0; block < blocks; ++block, out += kTile) {
      pack_tile(args, row + i, std::min(kTileRows, count - i), block * kBlockK, out);
    }
  }
}

/// Prefetches one tile of weights into the first-level cache.
inline void prefetch_tile(const BFloat16* tile) {
  const char* line = reinterpret_cast<const char*>(tile);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm_prefetch(line + 64 * i, _MM_HINT_T0);
}

/// Where tiles of sums go: tile (r, p) to data + r * row_step + p * panel_step, its rows `stride`
/// bytes apart.
struct SumTiles {
  float* data = nullptr;
  int64_t row_step = 0, panel_step = 0;  // elements
  int64_t stride = 0;                    // bytes
};

/// Sums of R blocks of rows (1 or 2) by P panels (1 or 2), from packed x and weight. Tiles 0-3
/// sums, 4-5 x, 6-7 weight.
template <int R, int P>
void tiles_2x2(const BFloat16* x, const BFloat16* w, int64_t blocks, const SumTiles& sums) {
  _tile_zero(0);
  if constexpr (P > 1) _tile_zero(1);
  if constexpr (R > 1) _tile_zero(2);
  if constexpr (R > 1 && P > 1) _tile_zero(3);
  const int64_t run = blocks * kTile;
  for (int64_t block = 0; block < blocks; ++block, x += kTile, w += kTile) {
    _tile_loadd(4, x, kTileStride);
    _tile_loadd(6, w, kTileStride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (P > 1) {
      _tile_loadd(7, w + run, kTileStride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, x + run, kTileStride);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (R > 1 && P > 1) _tile_dpbf16ps(3, 5, 7);
  }
  float* second = sums.data + sums.row_step;
  _tile_stored(0, sums.data, sums.stride);
  if constexpr (P > 1) _tile_stored(1, sums.data + sums.panel_step, sums.stride);
  if constexpr (R > 1) _tile_stored(2, second, sums.stride);
  if constexpr (R > 1 && P > 1) _tile_stored(3, second + sums.panel_step, sums.stride);
}

/// Sums of one block of rows by four panels: few rows, so the weight's way from memory counts, and
/// it is prefetched two tiles ahead. Tiles 0-3 sums, 4 x, 5-7 weight in turn.
void tiles_1x4(const BFloat16* x, const BFloat16* w, int64_t blocks, float* sums) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  const int64_t run = blocks * kTile;
  for (int64_t block = 0; block < blocks; ++block, x += kTile, w += kTile) {
    _tile_loadd(4, x, kTileStride);
    prefetch_tile(w + 2 * kTile);
    _tile_loadd(5, w, kTileStride);
    _tile_dpbf16ps(0, 4, 5);
    prefetch_tile(w + run + 2 * kTile);
    _tile_loadd(6, w + run, kTileStride);
    _tile_dpbf16ps(1, 4, 6);
    prefetch_tile(w + 2 * run + 2 * kTile);
    _tile_loadd(7, w + 2 * run, kTileStride);
    _tile_dpbf16ps(2, 4, 7);
    prefetch_tile(w + 3 * run + 2 * kTile);
    _tile_loadd(5, w + 3 * run, kTileStride);
    _tile_dpbf16ps(3, 4, 5);
  }
  constexpr int kSums = kTileRows * kPanel;
  _tile_stored(0, sums, kTileStride);
  _tile_stored(1, sums + kSums, kTileStride);
  _tile_stored(2, sums + 2 * kSums, kTileStride);
  _tile_stored(3, sums + 3 * kSums, kTileStride);
}

class AmxPart {
 public:
  AmxPart(const LinearArgs& args, const LinearPart& part)
      : args_(args),
        part_(part),
        blocks_(ceil_div(args.weight->k(), kBlockK)),
        weight_(reinterpret_cast<const BFloat16*>(args.weight->data())) {
    const int64_t fit = kTurnBytes / std::max<int64_t>(1, blocks_ * kTileStride);
    turn_ = std::clamp(fit / kRowUnit * kRowUnit, kRowUnit, int64_t{512});
    turn_ = std::min(turn_, ceil_div(part.row_end - part.row_begin, kTileRows) * kTileRows);
    x_ = reinterpret_cast<BFloat16*>(thread_scratch(
        turn_ / kTileRows * blocks_ * kTile * int64_t{sizeof(BFloat16)}, ScratchSlot::kLinear));
  }

  void run() {
    const Tiles tiles;
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turn_) {
      const int64_t count = std::min(turn_, part_.row_end - row);
      pack_x(args_, row, count, blocks_, x_);
      if (count <= kTileRows) {
        few_rows(row, count);
      } else {
        many_rows(row, count);
      }
    }
  }

 private:
  void few_rows(int64_t row, int64_t count) {
    int64_t panel = part_.panel_begin;
    for (; panel + 4 <= part_.panel_end; panel += 4) {
      tiles_1x4(x_, weight_at(panel), blocks_, sums_);
      for (int64_t p = 0; p < 4; ++p) store_rows(args_, row, count, panel + p, sums_ + p * kSums);
    }
    for (; panel < part_.panel_end; ++panel) {
      tiles_2x2<1, 1>(x_, weight_at(panel), blocks_, {sums_, 0, 0, kTileStride});
      store_rows(args_, row, count, panel, sums_);
    }
  }

  void many_rows(int64_t row, int64_t count) {
    for (int64_t panel = part_.panel_begin; panel < part_.panel_end; panel += 2) {
      for (int64_t i = 0; i < count; i += 2 * kTileRows) {
        const BFloat16* x = x_ + i * blocks_ * kBlockK;
        square(x, row + i, std::min(2 * kTileRows, count - i), panel);
      }
    }
  }

  /// At most 32 rows by 2 panels.
  void square(const BFloat16* x, int64_t row, int64_t rows, int64_t panel) {
    const int64_t panels = std::min(int64_t{2}, part_.panel_end - panel);
    const bool direct = rows == 2 * kTileRows && (panel + 2) * kPanel <= args_.weight->n() &&
                        args_.y_dtype == DType::kFloat32 && !args_.accumulate &&
                        args_.y_rows == nullptr;
    SumTiles sums{sums_, panels * kSums, kSums, kTileStride};
    if (direct) {
      sums.data = static_cast<float*>(args_.y) + row * args_.y_stride + panel * kPanel;
      sums.row_step = kTileRows * args_.y_stride;
      sums.panel_step = kPanel;
      sums.stride = args_.y_stride * int64_t{sizeof(float)};
    }
    const BFloat16* w = weight_at(panel);
    if (rows > kTileRows) {
      panels == 2 ? tiles_2x2<2, 2>(x, w, blocks_, sums) : tiles_2x2<2, 1>(x, w, blocks_, sums);
    } else {
      panels == 2 ? tiles_2x2<1, 2>(x, w, blocks_, sums) : tiles_2x2<1, 1>(x, w, blocks_, sums);
    }
    if (direct) return;
    for (int64_t i = 0; i < rows; i += kTileRows) {
      for (int64_t p = 0; p < panels; ++p) {
        store_rows(args_, row + i, std::min(kTileRows, rows - i), panel + p,
                   sums_ + (i / kTileRows * panels + p) * kSums);
      }
    }
  }

  const BFloat16* weight_at(int64_t panel) const { return weight_ + panel * blocks_ * kTile; }

  static constexpr int64_t kSums = kTileRows * kPanel;
  const LinearArgs& args_;
  const LinearPart& part_;
  int64_t blocks_, turn_ = 0;
  const BFloat16* weight_;
  BFloat16* x_ = nullptr;
  alignas(64) float sums_[4 * kSums];
};

}  // namespace
}  // namespace avx512

void linear_bf16_amx(const LinearArgs& args, const LinearPart& part) {
  avx512::AmxPart(args, part).run();
}

}  // namespace mole::kernels
