// linear with narrow weights and bfloat16 activations by TDPBF16PS: a group of 128 k is unpacked to
// bfloat16 tiles in the first-level cache (one group ahead of the matrix unit, which would wait for
// the stores), multiplied from zero with all rows of a turn, and the sums times their scales join
// the rows' totals.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/scratch.h"
#include "kernels/linear/amx_kernels.h"
#include "kernels/linear/quantized_impl.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int64_t kTiles = kGroupK / kBlockK;  // of a group
constexpr int64_t kTurnRows = 256;             // their totals stay in the first-level cache
constexpr int64_t kSideBySide = 4;             // panels read together for few rows
constexpr int64_t kPrefetch = 4096;            // bytes ahead of the reader in each panel

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

/// One group's codes to four tiles, while what lies `ahead` bytes further is fetched.
void unpack_group(const ByteTables& tables, const std::byte* codes, int64_t ahead,
                  BFloat16* tiles) {
#pragma GCC unroll 4
  for (int64_t line = 0; line < kGroupElements; line += 64, tiles += 4 * kPanel) {
    _mm_prefetch(reinterpret_cast<const char*>(codes) + line + ahead, _MM_HINT_T0);
    tables.unpack(_mm512_loadu_si512(codes + line), tiles);
  }
}
void unpack_group(const NibbleTables& tables, const std::byte* codes, int64_t ahead,
                  BFloat16* tiles) {
  const __m512i mask = _mm512_set1_epi8(15);
#pragma GCC unroll 4
  for (int64_t line = 0; line < kGroupElements / 2; line += 64, tiles += 8 * kPanel) {
    _mm_prefetch(reinterpret_cast<const char*>(codes) + line + ahead, _MM_HINT_T0);
    const __m512i pairs = _mm512_loadu_si512(codes + line);
    tables.unpack(_mm512_and_si512(pairs, mask), tiles);
    tables.unpack(_mm512_and_si512(_mm512_srli_epi16(pairs, 4), mask), tiles + 4 * kPanel);
  }
}

/// Tiles of x for one group: `count` of them (fewer in the last group of K).
struct GroupX {
  const BFloat16* x;
  int64_t tile;   // values of a tile
  int64_t block;  // from one block of 16 rows to the next
  int64_t count;
};

/// One block of up to 16 rows by one panel. The weight in tile 7, which always has 16 rows.
void group_row(const GroupX& from, const BFloat16* w, float* sums) {
  _tile_zero(0);
  for (int64_t t = 0; t < from.count; ++t) {
    _tile_loadd(6, from.x + t * from.tile, kTileStride);
    _tile_loadd(7, w + t * kTile, kTileStride);
    _tile_dpbf16ps(0, 6, 7);
  }
  _tile_stored(0, sums, kTileStride);
}

template <typename Tables>
class NarrowAmxPart {
 public:
  NarrowAmxPart(const LinearArgs& args, const LinearPart& part)
      : args_(args),
        part_(part),
        tables_(args.weight->format()),
        blocks_(ceil_div(args.weight->k(), kBlockK)),
        groups_(ceil_div(args.weight->k(), kGroupK)),
        code_bytes_(group_code_bytes(args.weight->format())),
        panel_bytes_(quantized_panel_bytes(args.weight->format(), args.weight->k())) {
    const int64_t rows = part.row_end - part.row_begin;
    turn_ = std::min(kTurnRows, ceil_div(rows, kTileRows) * kTileRows);
    const int64_t totals =
        std::max(turn_, kTileRows) * kSideBySide * kPanel * int64_t{sizeof(float)};
    const int64_t x = args.x_tiles != nullptr ? 0 : turn_ * blocks_ * kBlockK;
    std::byte* memory =
        thread_scratch(totals + x * int64_t{sizeof(BFloat16)}, ScratchSlot::kLinear);
    totals_ = reinterpret_cast<float*>(memory);
    own_x_ = reinterpret_cast<BFloat16*>(memory + totals);
  }

  void run() {
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turn_) {
      const int64_t count = std::min(turn_, part_.row_end - row);
      const int64_t laid_out = args_.x_tiles != nullptr ? args_.rows : count;
      tile_rows_ = std::min(laid_out, kTileRows);
      if (args_.x_tiles != nullptr) {
        x_ = args_.x_tiles + row * blocks_ * kBlockK;
      } else {
        pack_rows(args_, row, count, 0, ceil_div(count, kTileRows), own_x_);
        x_ = own_x_;
      }
      const Tiles tiles(tile_rows_);
      const int64_t step = count <= kTileRows ? kSideBySide : 2;
      for (int64_t p = part_.panel_begin; p < part_.panel_end; p += step) {
        const int64_t panels = std::min(step, part_.panel_end - p);
        std::fill(totals_, totals_ + panels * turn_ * kPanel, 0.0f);
        count <= kTileRows ? few_rows(count, p, panels) : many_rows(count, p, panels);
        for (int64_t i = 0; i < panels; ++i) store_rows(args_, row, count, p + i, total(i));
      }
    }
  }

 private:
  /// Totals of the turn's rows of one panel.
  float* total(int64_t p) { return totals_ + p * turn_ * kPanel; }

  const std::byte* group(int64_t panel, int64_t g) const {
    return args_.weight->data() + panel * panel_bytes_ + g * (code_bytes_ + kScaleBytes);
  }

  /// The codes of one group of one of `panels` panels that are read side by side.
  void unpack(int64_t panel, int64_t panels, int64_t g, BFloat16* tiles) const {
    // Past a panel's end comes the panel that will be read after it.
    const bool inside = (g + 1) * (code_bytes_ + kScaleBytes) + kPrefetch <= panel_bytes_;
    const int64_t ahead = kPrefetch + (inside ? 0 : (panels - 1) * panel_bytes_);
    unpack_group(tables_, group(panel, g), ahead, tiles);
  }

  GroupX group_x(int64_t first, int64_t g) const {
    return {x_ + first * blocks_ * kBlockK + g * kTiles * tile_rows_ * kBlockK,
            tile_rows_ * kBlockK, blocks_ * kTileRows * kBlockK,
            std::min(kTiles, blocks_ - g * kTiles)};
  }

  /// At most 16 rows: panels side by side, a group of each in turn, one ahead.
  void few_rows(int64_t count, int64_t panel, int64_t panels) {
    if (groups_ > 0) unpack(panel, panels, 0, tiles_[0][0]);
    for (int64_t step = 0; step < groups_ * panels; ++step) {
      const int64_t g = step / panels, p = step % panels, next = step + 1;
      if (next < groups_ * panels) {
        unpack(panel + next % panels, panels, next / panels, tiles_[next % 2][0]);
      }
      group_row(group_x(0, g), tiles_[step % 2][0], sums_);
      add(sums_, count, panel + p, g, total(p));
    }
  }

  /// More: one or two panels, the rows in blocks of 32.
  void many_rows(int64_t count, int64_t panel, int64_t panels) {
    for (int64_t g = 0; g < groups_; ++g) {
      for (int64_t p = 0; p < panels; ++p) unpack(panel + p, panels, g, tiles_[g % 2][p]);
      for (int64_t first = 0; first < count; first += 2 * kTileRows) {
        const int64_t rows = std::min(2 * kTileRows, count - first);
        const bool more = first + 2 * kTileRows < count;
        multiply<Factors::kBFloat16>(square(first, more ? first + 2 * kTileRows : 0, g, more),
                                     rows > kTileRows, panels == 2);
        for (int64_t r = 0; r < rows; r += kTileRows) {
          for (int64_t p = 0; p < panels; ++p) {
            add(sums_ + (r / kTileRows * 2 + p) * kSums, std::min(kTileRows, rows - r), panel + p,
                g, total(p) + (first + r) * kPanel);
          }
        }
      }
    }
  }

  /// The rows from `first` on by an unpacked group; afterwards come those from `next` on, by the
  /// same group or the one after it.
  Square square(int64_t first, int64_t next, int64_t g, bool same) {
    const GroupX x = group_x(first, g);
    const int64_t then = same ? g : g + 1;
    Square out;
    out.x = reinterpret_cast<const std::byte*>(x.x);
    out.x_block = x.block * int64_t{sizeof(BFloat16)};
    out.w = reinterpret_cast<const std::byte*>(tiles_[g % 2][0]);
    out.panel = kGroupElements * int64_t{sizeof(BFloat16)};
    out.blocks = x.count;
    out.to = packed_sums(sums_);
    out.next_x = reinterpret_cast<const std::byte*>(group_x(next, std::min(then, groups_ - 1)).x);
    out.next_w = reinterpret_cast<const std::byte*>(tiles_[then % 2][0]);
    return out;
  }

  /// The sums of at most 16 rows, times the group's scales, to their totals.
  void add(const float* sums, int64_t rows, int64_t panel, int64_t g, float* total) const {
    const F32x16 scales = load16(reinterpret_cast<const float*>(group(panel, g) + code_bytes_));
    for (int64_t i = 0; i < rows; ++i, sums += kPanel, total += kPanel) {
      store16(total, fma16(load16(sums), scales, load16(total)));
    }
  }

  const LinearArgs& args_;
  const LinearPart& part_;
  Tables tables_;
  int64_t blocks_, groups_, code_bytes_, panel_bytes_;  // blocks: tiles over K
  int64_t turn_ = 0, tile_rows_ = 0;
  float* totals_ = nullptr;
  BFloat16* own_x_ = nullptr;
  const BFloat16* x_ = nullptr;                       // in tiles, see pack_rows
  alignas(64) BFloat16 tiles_[2][2][kGroupElements];  // in turn, panels
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
