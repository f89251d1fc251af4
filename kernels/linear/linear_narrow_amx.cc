// linear with narrow weights and bfloat16 activations by TDPBF16PS: a group of 128 k is unpacked to
// bfloat16 tiles in the first-level cache (one group ahead of the matrix unit, which would wait for
// the stores), multiplied from zero with all rows of a turn, and the sums times their scales join
// the rows' totals.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/scratch.h"
#include "kernels/linear/quantized_impl.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int64_t kTileRows = 16;
constexpr int64_t kSums = kTileRows * kPanel;  // of a tile of sums
constexpr int64_t kTile = kBlockK * kPanel;    // values of a weight's tile
constexpr int64_t kTiles = kGroupK / kBlockK;  // of a group
constexpr int kTileStride = 64;                // bytes
constexpr int64_t kTurnRows = 256;             // their totals stay in the first-level cache
constexpr int64_t kPrefetch = 4096;            // bytes ahead of the reader

/// Both bytes of the bfloat16 of each code below 128, as operands of VPERMI2B.
class ByteTables {
 public:
  explicit ByteTables(WeightFormat format) {
    alignas(64) uint8_t low[128], high[128];
    for (int i = 0; i < 128; ++i) {
      const uint16_t bits = narrow_magnitude(format, static_cast<uint8_t>(i));
      low[i] = static_cast<uint8_t>(bits);
      high[i] = static_cast<uint8_t>(bits >> 8);
    }
    for (int i = 0; i < 2; ++i) {
      low_[i] = _mm512_load_si512(low + 64 * i);
      high_[i] = _mm512_load_si512(high + 64 * i);
    }
  }
  /// 64 codes to two rows of a tile.
  void unpack(__m512i codes, BFloat16* rows) const {
    const __m512i sign = _mm512_set1_epi8(static_cast<char>(0x80));
    const __m512i low = _mm512_permutex2var_epi8(low_[0], codes, low_[1]);
    const __m512i magnitude = _mm512_permutex2var_epi8(high_[0], codes, high_[1]);
    // magnitude | (codes & sign)
    const __m512i high = _mm512_ternarylogic_epi32(magnitude, codes, sign, 0xf8);
    _mm512_store_si512(rows, _mm512_unpacklo_epi8(low, high));
    _mm512_store_si512(rows + 2 * kPanel, _mm512_unpackhi_epi8(low, high));
  }

 private:
  __m512i low_[2], high_[2];
};

/// Likewise for codes 0 … 15 of int4, in each 128 bits.
class NibbleTables {
 public:
  explicit NibbleTables(WeightFormat) {
    alignas(16) uint8_t low[16], high[16];
    for (int i = 0; i < 16; ++i) {
      const uint16_t bits = to_bfloat16(static_cast<float>(i - 8)).bits;
      low[i] = static_cast<uint8_t>(bits);
      high[i] = static_cast<uint8_t>(bits >> 8);
    }
    low_ = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(low)));
    high_ = _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(high)));
  }
  void unpack(__m512i codes, BFloat16* rows) const {
    const __m512i low = _mm512_shuffle_epi8(low_, codes);
    const __m512i high = _mm512_shuffle_epi8(high_, codes);
    _mm512_store_si512(rows, _mm512_unpacklo_epi8(low, high));
    _mm512_store_si512(rows + 2 * kPanel, _mm512_unpackhi_epi8(low, high));
  }

 private:
  __m512i low_, high_;
};

void unpack_group(const ByteTables& tables, const std::byte* codes, BFloat16* tiles) {
#pragma GCC unroll 4
  for (int64_t line = 0; line < kGroupElements; line += 64, tiles += 4 * kPanel) {
    _mm_prefetch(reinterpret_cast<const char*>(codes) + line + kPrefetch, _MM_HINT_T0);
    tables.unpack(_mm512_loadu_si512(codes + line), tiles);
  }
}
void unpack_group(const NibbleTables& tables, const std::byte* codes, BFloat16* tiles) {
  const __m512i mask = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int64_t line = 0; line < kGroupElements / 2; line += 64, tiles += 8 * kPanel) {
    _mm_prefetch(reinterpret_cast<const char*>(codes) + line + kPrefetch, _MM_HINT_T0);
    const __m512i pairs = _mm512_loadu_si512(codes + line);
    tables.unpack(_mm512_and_si512(pairs, mask), tiles);
    tables.unpack(_mm512_and_si512(_mm512_srli_epi16(pairs, 4), mask), tiles + 4 * kPanel);
  }
}

/// R blocks of 16 rows by P panels (each 1 or 2) over one group; tile (r, p)'s sums to
/// sums + (r * P + p) * kSums.
template <int R, int P>
void group_squares(const BFloat16* x, int64_t stride, const BFloat16* const* w, float* sums) {
  _tile_zero(0);
  if constexpr (P > 1) _tile_zero(1);
  if constexpr (R > 1) _tile_zero(2);
  if constexpr (R > 1 && P > 1) _tile_zero(3);
  const int64_t row_bytes = stride * int64_t{sizeof(BFloat16)};
#pragma GCC unroll 4
  for (int64_t t = 0; t < kTiles; ++t, x += kBlockK) {
    _tile_loadd(4, x, row_bytes);
    _tile_loadd(6, w[0] + t * kTile, kTileStride);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (P > 1) {
      _tile_loadd(7, w[1] + t * kTile, kTileStride);
      _tile_dpbf16ps(1, 4, 7);
    }
    if constexpr (R > 1) {
      _tile_loadd(5, x + kTileRows * stride, row_bytes);
      _tile_dpbf16ps(2, 5, 6);
    }
    if constexpr (R > 1 && P > 1) _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kTileStride);
  if constexpr (P > 1) _tile_stored(1, sums + kSums, kTileStride);
  if constexpr (R > 1) _tile_stored(2, sums + P * kSums, kTileStride);
  if constexpr (R > 1 && P > 1) _tile_stored(3, sums + 3 * kSums, kTileStride);
}

template <typename Tables>
class NarrowAmxPart {
 public:
  NarrowAmxPart(const LinearArgs& args, const LinearPart& part)
      : args_(args),
        part_(part),
        tables_(args.weight->format()),
        groups_(ceil_div(args.weight->k(), kGroupK)),
        code_bytes_(group_code_bytes(args.weight->format())),
        panel_bytes_(quantized_panel_bytes(args.weight->format(), args.weight->k())),
        // Rows a multiple of 4 KiB apart would fall into the same cache sets.
        x_stride_(groups_ * kGroupK + 32) {
    turn_ = std::min(kTurnRows, ceil_div(part.row_end - part.row_begin, kTileRows) * kTileRows);
    const int64_t totals = turn_ * 2 * kPanel * int64_t{sizeof(float)};
    std::byte* memory = thread_scratch(totals + turn_ * x_stride_ * int64_t{sizeof(BFloat16)},
                                       ScratchSlot::kLinear);
    totals_ = reinterpret_cast<float*>(memory);
    x_ = reinterpret_cast<BFloat16*>(memory + totals);
  }

  void run() {
    const Tiles tiles;
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turn_) {
      const int64_t count = std::min(turn_, part_.row_end - row);
      stage(row, count);
      // One panel is one stream from memory; many rows would rather load each tile of x once.
      const int64_t step = count <= kTileRows ? 1 : 2;
      for (int64_t p = part_.panel_begin; p < part_.panel_end; p += step) {
        const int64_t panels = std::min(step, part_.panel_end - p);
        panels == 2 ? some_panels<2>(row, count, p) : some_panels<1>(row, count, p);
      }
    }
  }

 private:
  void stage(int64_t row, int64_t count) {
    const auto k = static_cast<std::size_t>(args_.weight->k());
    const auto padding = static_cast<std::size_t>(groups_ * kGroupK) - k;
    const int64_t blocks = ceil_div(count, kTileRows) * kTileRows;
    for (int64_t i = 0; i < blocks; ++i) {
      BFloat16* to = x_ + i * x_stride_;
      if (i >= count) {  // a stray NaN would slow the unit down, and nothing else
        std::fill(to, to + k + padding, BFloat16{});
        continue;
      }
      const auto* x =
          static_cast<const BFloat16*>(args_.x) + memory_row(args_, row + i) * args_.x_stride;
      std::copy(x, x + k, to);
      std::fill(to + k, to + k + padding, BFloat16{});
    }
  }

  const std::byte* group(int64_t panel, int64_t g) const {
    return args_.weight->data() + panel * panel_bytes_ + g * (code_bytes_ + kScaleBytes);
  }

  template <int P>
  void unpack(int64_t panel, int64_t g) {
    for (int p = 0; p < P; ++p) unpack_group(tables_, group(panel + p, g), tiles_[g % 2][p]);
  }

  /// Totals of the turn: row i of panel p at totals_ + (p * turn_ + i) * 16.
  template <int P>
  void some_panels(int64_t row, int64_t count, int64_t panel) {
    for (int p = 0; p < P; ++p) {
      float* totals = totals_ + p * turn_ * kPanel;
      std::fill(totals, totals + count * kPanel, 0.0f);
    }
    if (groups_ > 0) unpack<P>(panel, 0);
    for (int64_t g = 0; g < groups_; ++g) {
      if (g + 1 < groups_) unpack<P>(panel, g + 1);
      for (int64_t i = 0; i < count; i += 2 * kTileRows) {
        multiply<P>(i, std::min(2 * kTileRows, count - i), panel, g);
      }
    }
    for (int p = 0; p < P; ++p) {
      store_rows(args_, row, count, panel + p, totals_ + p * turn_ * kPanel);
    }
  }

  /// At most 32 rows, from the turn's row `first` on, times group g.
  template <int P>
  void multiply(int64_t first, int64_t rows, int64_t panel, int64_t g) {
    const BFloat16* w[2] = {tiles_[g % 2][0], tiles_[g % 2][1]};
    const BFloat16* x = x_ + first * x_stride_ + g * kGroupK;
    if (rows > kTileRows) {
      group_squares<2, P>(x, x_stride_, w, sums_);
    } else {
      group_squares<1, P>(x, x_stride_, w, sums_);
    }
    for (int p = 0; p < P; ++p) {
      const auto* at = reinterpret_cast<const float*>(group(panel + p, g) + code_bytes_);
      const F32x16 scales = load16(at);
      float* total = totals_ + (p * turn_ + first) * kPanel;
      for (int64_t i = 0; i < rows; ++i, total += kPanel) {
        const float* sum = sums_ + (i / kTileRows * P + p) * kSums + i % kTileRows * kPanel;
        store16(total, fma16(load16(sum), scales, load16(total)));
      }
    }
  }

  const LinearArgs& args_;
  const LinearPart& part_;
  Tables tables_;
  int64_t groups_, code_bytes_, panel_bytes_, x_stride_, turn_ = 0;
  float* totals_ = nullptr;
  BFloat16* x_ = nullptr;
  alignas(64) BFloat16 tiles_[2][2][kGroupElements];  // groups in turn, panels
  alignas(64) float sums_[4 * kSums];
};

}  // namespace
}  // namespace avx512

void linear_narrow_amx(const LinearArgs& args, const LinearPart& part) {
  if (args.weight->format() == WeightFormat::kInt4) {
    avx512::NarrowAmxPart<avx512::NibbleTables>(args, part).run();
  } else {
    avx512::NarrowAmxPart<avx512::ByteTables>(args, part).run();
  }
}

}  // namespace mole::kernels
