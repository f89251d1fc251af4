// linear with int8 factors by TDPBSSD. Up to 32 rows: panels side by side, as many as there are
// tiles for sums, each prefetched. More rows: the squares of amx_kernels.h, x of a turn staying in
// the second-level cache.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/linear/int8_finish.h"
#include "kernels/linear/int8_stream.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int64_t kTurnBytes = int64_t{1} << 20;  // of x at a time
constexpr int64_t kTurnRowsMax = 512;
// Tiles of a longer K are cut into runs, so that a turn has rows enough to repay reading the
// weight; the sums, which are exact, wait. Groups of 128 k are added up one by one anyway.
constexpr int64_t kRunMax = 96, kRun = 64;
constexpr int64_t kGroupPanels = 32;  // whose sums wait; a multiple of 2

class Int8Part {
 public:
  Int8Part(const LinearArgs& args, const LinearPart& part)
      : args_(args),
        part_(part),
        panels_(*args.weight),
        cut_(panels_.format == WeightFormat::kInt8 && panels_.tiles > kRunMax),
        turns_(args, part, turn_rows(), waiting_bytes()) {}

  void run() {
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turns_.rows()) {
      const int64_t count = std::min(turns_.rows(), part_.row_end - row);
      x_ = turns_.take(row, count);
      const Tiles tiles(x_.tile_rows);
      if (count > 2 * kTileRows) {
        many_rows(row, count);
        continue;
      }
      const int64_t step = count <= kTileRows ? kSumTiles : kSumTiles / 2;
      for (int64_t p = part_.panel_begin; p < part_.panel_end; p += step) {
        few_rows(row, count, p, std::min(step, part_.panel_end - p));
      }
    }
  }

 private:
  int64_t turn_rows() const {
    const int64_t run = cut_ ? kRun * kInt8TileK : args_.weight->k();
    const int64_t fit = kTurnBytes / std::max<int64_t>(1, run) / kRowUnit * kRowUnit;
    const int64_t most = std::clamp(fit, kRowUnit, kTurnRowsMax);
    // An even cut, so that the last turn is no small rest.
    const int64_t rows = part_.row_end - part_.row_begin;
    const int64_t turns = std::max<int64_t>(1, ceil_div(rows, most));
    return ceil_div(ceil_div(rows, turns), kRowUnit) * kRowUnit;
  }

  int64_t waiting_bytes() const {
    const int64_t squares = ceil_div(turn_rows(), 2 * kTileRows) * (kGroupPanels / 2);
    return cut_ ? squares * 4 * kSums * int64_t{sizeof(int32_t)} : 0;
  }

  int64_t x_block() const { return kTileRows * x_.stride; }
  /// Tile t of the turn's rows from `first` (a multiple of 16) on.
  const int8_t* x_at(int64_t first, int64_t t) const {
    return x_.codes + first * x_.stride + t * x_.tile_rows * kInt8TileK;
  }

  /// At most 32 rows by some panels side by side.
  void few_rows(int64_t row, int64_t rows, int64_t panel, int64_t panels) {
    for (int64_t run = 0; run < x_.runs; ++run) {
      const std::byte* w = panels_.codes(panel, run);
      const int64_t left = panels_.bytes - (w - panels_.panel(panel));
      const Int8Stream from{x_at(0, run * panels_.run_tiles()),
                            x_.tile_rows * kInt8TileK,
                            x_block(),
                            w,
                            panels_.bytes,
                            left,
                            panels_.run_tiles()};
      rows > kTileRows ? stream_int8<2>(from, panels, sums_) : stream_int8<1>(from, panels, sums_);
      finish(sums_, 0, rows, run, panel, panels);
    }
    store(row, 0, rows, panel, panels);
  }

  /// Pairs of panels; where K is cut, a group's sums are kept between its runs.
  void many_rows(int64_t row, int64_t count) {
    if (panels_.format != WeightFormat::kInt8) return many_rows_in_groups(row, count);
    const int64_t squares = ceil_div(count, 2 * kTileRows);
    const int64_t run = cut_ ? kRun : std::max<int64_t>(1, panels_.tiles);
    const int64_t group = cut_ ? kGroupPanels : part_.panel_end - part_.panel_begin;
    auto* const waiting = reinterpret_cast<int32_t*>(turns_.spare());
    for (int64_t first = part_.panel_begin; first < part_.panel_end; first += group) {
      const int64_t last = std::min(part_.panel_end, first + group);
      for (int64_t tile = 0; tile == 0 || tile < panels_.tiles; tile += run) {
        for (int64_t panel = first; panel < last; panel += 2) {
          int32_t* sums = cut_ ? waiting + (panel - first) / 2 * squares * 4 * kSums : nullptr;
          pair(row, count, tile, std::min(run, panels_.tiles - tile), panel, sums);
        }
      }
    }
  }

  /// All rows of the turn by at most 2 panels and a run of tiles; the sums of each square wait in
  /// `waiting`, or if that is null never do.
  void pair(int64_t row, int64_t count, int64_t tile, int64_t tiles, int64_t panel,
            int32_t* waiting) {
    const int64_t panels = std::min(int64_t{2}, part_.panel_end - panel);
    Square square;
    square.x_block = x_block();
    square.panel = panels_.bytes;
    square.w = panels_.codes(panel, 0) + tile * kInt8Tile;
    square.blocks = tiles;
    square.first = tile == 0;
    square.lines = ceil_div(kTileRows, ceil_div(count, 2 * kTileRows));
    const std::byte* const next = following(panel + panels) + tile * kInt8Tile;
    square.ahead = next;
    for (int64_t i = 0; i < count; i += 2 * kTileRows) {
      const int64_t rows = std::min(2 * kTileRows, count - i);
      const bool more = i + 2 * kTileRows < count;
      square.x = reinterpret_cast<const std::byte*>(x_at(i, tile));
      square.next_x = reinterpret_cast<const std::byte*>(x_at(more ? i + 2 * kTileRows : 0, tile));
      square.next_w = more ? square.w : next;
      int32_t* const sums = waiting == nullptr ? sums_ : waiting + i / 2 / kTileRows * 4 * kSums;
      square.from = square.to = packed_sums(sums);
      multiply<Factors::kInt8>(square, rows > kTileRows, panels > 1);
      square.ahead += tiles * square.lines * 64;
      if (tile + tiles < panels_.tiles) continue;
      finish(sums, i, rows, 0, panel, panels, 2);
      store(row, i, rows, panel, panels);
    }
  }

  /// Groups of k of one pair of panels after the other, the rows' totals staying in the cache.
  void many_rows_in_groups(int64_t row, int64_t count) {
    for (int64_t panel = part_.panel_begin; panel < part_.panel_end; panel += 2) {
      const int64_t panels = std::min(int64_t{2}, part_.panel_end - panel);
      const std::byte* const next = following(panel + panels);
      for (int64_t i = 0; i < count; i += 2 * kTileRows) {
        const int64_t rows = std::min(2 * kTileRows, count - i);
        prefetch_slice(next, panels, i, count);
        for (int64_t run = 0; run < x_.runs; ++run) {
          Square square;
          square.x = reinterpret_cast<const std::byte*>(x_at(i, run * panels_.run_tiles()));
          square.x_block = x_block();
          square.w = panels_.codes(panel, run);
          square.panel = panels_.bytes;
          square.blocks = panels_.run_tiles();
          square.next_x = square.x + square.blocks * kTileBytes;
          square.next_w = panels_.codes(panel, std::min(run + 1, x_.runs - 1));
          square.to = packed_sums(sums_);
          multiply<Factors::kInt8>(square, rows > kTileRows, panels > 1);
          finish(sums_, i, rows, run, panel, panels, 2);
        }
        store(row, i, rows, panel, panels);
      }
    }
  }

  /// A share of the next panels to the second-level cache, as the rows from `first` on have in all.
  void prefetch_slice(const std::byte* next, int64_t panels, int64_t first, int64_t count) const {
    const int64_t bytes = panels * panels_.bytes;
    const int64_t end = std::min(bytes, (first + 2 * kTileRows) * bytes / count);
    for (int64_t i = first * bytes / count / 64 * 64; i < end; i += 64) {
      _mm_prefetch(reinterpret_cast<const char*>(next) + i, _MM_HINT_T1);
    }
  }

  /// What will be read after the panels before `panel`.
  const std::byte* following(int64_t panel) const {
    return panel < part_.panel_end || part_.next == nullptr ? panels_.panel(panel) : part_.next;
  }

  /// Totals of at most 32 rows of one panel.
  float* total(int64_t p) { return totals_ + p * 2 * kSums; }

  /// What the sums of `rows` rows from the turn's row `first` on are worth, to their totals. A row
  /// of 16 lies at sums[r][p], each r being `width` tiles (0 = as many as panels).
  void finish(const int32_t* sums, int64_t first, int64_t rows, int64_t run, int64_t panel,
              int64_t panels, int64_t width = 0) {
    if (width == 0) width = panels;
    const bool whole = panels_.format == WeightFormat::kInt8;
    const float* const x_scales = x_.scales + first * x_.runs + run;
    for (int64_t p = 0; p < panels; ++p) {
      const float* const scales = panels_.scales(panel + p, run);
      float* to = total(p);
      for (int64_t i = 0; i < rows; ++i, to += kPanel) {
        const int32_t* from = sums + (i / kTileRows * width + p) * kSums + i % kTileRows * kPanel;
        const I32x16 sum = load_int16(from);
        const float scale = x_scales[i * x_.runs];
        if (whole) {
          store16(to, finish_run(sum, scale, scales));
        } else {
          const F32x16 before = run == 0 ? zero16() : load16(to);
          store16(to, finish_group(sum, scale, scales, before));
        }
      }
    }
  }

  void store(int64_t row, int64_t first, int64_t rows, int64_t panel, int64_t panels) {
    for (int64_t p = 0; p < panels; ++p) {
      if (x_.runs == 0) std::fill(total(p), total(p) + rows * kPanel, 0.0f);
      store_rows(args_, row + first, rows, panel + p, total(p));
    }
  }

  const LinearArgs& args_;
  const LinearPart& part_;
  Int8Panels panels_;
  bool cut_;  // K, into runs
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
