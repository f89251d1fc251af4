// linear for bfloat16 with AMX. Few rows: the weight's way from memory counts, so several panels
// are read side by side and prefetched. Many rows: 2 by 2 tiles of 16 by 16 sums, x and a pair of
// panels staying in the second-level cache, the next pair on its way there.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/cpu/scratch.h"
#include "kernels/linear/amx_kernels.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

// Packed x of one turn: it stays in the second-level cache beside the weight's panels.
constexpr int64_t kTurnBytes = int64_t{1} << 20;
constexpr int64_t kTurnRowsMax = 512;
// Longer K is cut into runs of tiles, so that a turn has rows enough to repay reading the weight.
constexpr int64_t kRunMax = 96, kRun = 64;
// Panels whose sums wait between runs of K; a multiple of 2.
constexpr int64_t kGroupPanels = 32;

class AmxPart {
 public:
  AmxPart(const LinearArgs& args, const LinearPart& part)
      : args_(args),
        part_(part),
        blocks_(ceil_div(args.weight->k(), kBlockK)),
        run_(blocks_ <= kRunMax ? blocks_ : kRun),
        weight_(reinterpret_cast<const BFloat16*>(args.weight->data())) {
    // An even cut, so that the last turn is no small rest.
    const int64_t rows = part.row_end - part.row_begin;
    const int64_t fit = kTurnBytes / std::max<int64_t>(1, run_ * kTileStride);
    const int64_t most = std::clamp(fit / kRowUnit * kRowUnit, kRowUnit, kTurnRowsMax);
    const int64_t turns = std::max<int64_t>(1, ceil_div(rows, most));
    turn_ = ceil_div(ceil_div(rows, turns), kRowUnit) * kRowUnit;
    take_memory(std::min(turn_, tiled_rows(rows)));
  }

  void run() {
    const int64_t rows = part_.row_end - part_.row_begin;
    const int64_t laid_out = args_.x_tiles != nullptr ? args_.rows : rows;
    tile_rows_ = std::min(laid_out, kTileRows);
    const Tiles tiles(tile_rows_);
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turn_) {
      const int64_t count = std::min(turn_, part_.row_end - row);
      if (args_.x_tiles != nullptr) {
        x_ = args_.x_tiles + row * blocks_ * kBlockK;
      } else {
        pack_rows(args_, row, count, 0, ceil_div(count, kTileRows), own_x_);
        x_ = own_x_;
      }
      if (count <= kTileRows) {
        few_rows(row, count);
      } else if (count <= 2 * kTileRows) {
        two_blocks(row, count);
      } else {
        many_rows(row, count);
      }
    }
  }

 private:
  void take_memory(int64_t rows) {
    const bool own = args_.x_tiles == nullptr;
    const int64_t x = own ? rows * blocks_ * kBlockK * int64_t{sizeof(BFloat16)} : 0;
    const int64_t pairs = ceil_div(rows, 2 * kTileRows) * (kGroupPanels / 2);
    const int64_t sums = run_ < blocks_ ? pairs * 4 * kSums * int64_t{sizeof(float)} : 0;
    std::byte* memory = thread_scratch(x + sums, ScratchSlot::kLinear);
    own_x_ = reinterpret_cast<BFloat16*>(memory);
    waiting_ = reinterpret_cast<float*>(memory + x);
  }

  /// At most 16 rows.
  void few_rows(int64_t row, int64_t count) {
    int64_t panel = part_.panel_begin;
    while (panel < part_.panel_end) {
      const int64_t panels = side_by_side(panel, kStreams);
      Stream stream{x_, tile_rows_ * kBlockK, weight_at(panel), following(panel + panels), blocks_};
      stream_panels(stream, panels, sums_);
      for (int64_t p = 0; p < panels; ++p) {
        store_rows(args_, row, count, panel + p, sums_ + p * kSums);
      }
      panel += panels;
    }
  }

  /// 17 to 32 rows.
  void two_blocks(int64_t row, int64_t count) {
    int64_t panel = part_.panel_begin;
    while (panel < part_.panel_end) {
      const int64_t panels = side_by_side(panel, kStreamsOfTwo);
      Stream stream{x_, kTile, weight_at(panel), following(panel + panels), blocks_};
      stream_panels_twice(stream, panels, sums_);
      for (int64_t p = 0; p < panels; ++p) {
        store_rows(args_, row, kTileRows, panel + p, sums_ + p * kSums);
        store_rows(args_, row + kTileRows, count - kTileRows, panel + p,
                   sums_ + (kStreamsOfTwo + p) * kSums);
      }
      panel += panels;
    }
  }

  /// Pairs of panels; where K is cut, a group's sums are kept between its runs.
  void many_rows(int64_t row, int64_t count) {
    const int64_t group = run_ < blocks_ ? kGroupPanels : part_.panel_end - part_.panel_begin;
    for (int64_t first = part_.panel_begin; first < part_.panel_end; first += group) {
      const int64_t last = std::min(part_.panel_end, first + group);
      for (int64_t block = 0; block < blocks_; block += run_) {
        for (int64_t panel = first; panel < last; panel += 2) {
          pair(row, count, block, panel, panel - first);
        }
      }
    }
  }

  /// All rows of the turn by at most 2 panels and one run of K.
  void pair(int64_t row, int64_t count, int64_t block, int64_t panel, int64_t place) {
    const int64_t panels = std::min(int64_t{2}, part_.panel_end - panel);
    const int64_t pairs = ceil_div(count, 2 * kTileRows);
    const int64_t skipped = block * kTileBytes;
    Square square;
    square.x_block = square.panel = blocks_ * kTileBytes;
    square.w = bytes_of(weight_at(panel)) + skipped;
    square.blocks = std::min(run_, blocks_ - block);
    square.first = block == 0;
    square.lines = ceil_div(kTileRows, pairs);
    const std::byte* const next = bytes_of(following(panel + panels)) + skipped;
    square.ahead = next;
    const bool last = block + square.blocks == blocks_;
    for (int64_t i = 0; i < count; i += 2 * kTileRows) {
      const int64_t rows = std::min(2 * kTileRows, count - i);
      square.x = bytes_of(x_ + i * blocks_ * kBlockK) + skipped;
      const bool more = i + 2 * kTileRows < count;
      square.next_x = more ? square.x + 2 * square.x_block : bytes_of(x_) + skipped;
      square.next_w = more ? square.w : next;
      float* waiting = waiting_ + (place / 2 * pairs + i / (2 * kTileRows)) * 4 * kSums;
      float* const sums = run_ < blocks_ ? waiting : sums_;
      const bool done = last && direct(rows, panel);
      square.from = packed_sums(sums);
      square.to = done ? in_place(row + i, panel) : square.from;
      multiply<Factors::kBFloat16>(square, rows > kTileRows, panels > 1);
      square.ahead += square.blocks * square.lines * 64;
      if (!last || done) continue;
      for (int64_t r = 0; r < rows; r += kTileRows) {
        for (int64_t p = 0; p < panels; ++p) {
          store_rows(args_, row + i + r, std::min(kTileRows, rows - r), panel + p,
                     sums + (r / kTileRows * 2 + p) * kSums);
        }
      }
    }
  }

  static const std::byte* bytes_of(const BFloat16* x) {
    return reinterpret_cast<const std::byte*>(x);
  }

  /// Whether tiles of sums can go to y as they are.
  bool direct(int64_t rows, int64_t panel) const {
    return rows == 2 * kTileRows && (panel + 2) * kPanel <= args_.weight->n() &&
           panel + 2 <= part_.panel_end && args_.y_dtype == DType::kFloat32 && !args_.accumulate &&
           args_.y_rows == nullptr;
  }
  SumTiles in_place(int64_t row, int64_t panel) const {
    constexpr int64_t kBytes = sizeof(float);
    float* y = static_cast<float*>(args_.y) + row * args_.y_stride;
    return {y + panel * kPanel - args_.y_column, kTileRows * args_.y_stride * kBytes,
            kPanel * kBytes, args_.y_stride * kBytes};
  }

  /// How many panels from `panel` on to read together: an even cut of what is left, because a small
  /// rest would be read slowly.
  int64_t side_by_side(int64_t panel, int64_t most) const {
    const int64_t left = part_.panel_end - panel;
    return ceil_div(left, ceil_div(left, most));
  }
  const BFloat16* weight_at(int64_t panel) const { return weight_ + panel * blocks_ * kTile; }
  /// What will be read after the panels before `panel`.
  const BFloat16* following(int64_t panel) const {
    if (panel < part_.panel_end || part_.next == nullptr) return weight_at(panel);
    return reinterpret_cast<const BFloat16*>(part_.next);
  }

  const LinearArgs& args_;
  const LinearPart& part_;
  int64_t blocks_, run_;  // of K: all, and those of a run
  int64_t turn_ = 0, tile_rows_ = 0;
  const BFloat16* weight_;
  const BFloat16* x_ = nullptr;  // of the turn
  BFloat16* own_x_ = nullptr;
  float* waiting_ = nullptr;
  alignas(64) float sums_[kSumTiles * kSums];
};

}  // namespace
}  // namespace avx512

void linear_bf16_amx(const LinearArgs& args, const LinearPart& part) {
  if (part.row_begin < part.row_end) avx512::AmxPart(args, part).run();
}

}  // namespace mole::kernels
