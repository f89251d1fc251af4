// linear with narrow weights and bfloat16 activations, without matrix units: a group of 128 k is
// unpacked to bfloat16 tiles in the first-level cache, all rows of a turn are multiplied with it as
// TDPBF16PS would, from zero, and the sums times their scales join the rows' totals.
#include <algorithm>

#include "kernels/cpu/scratch.h"
#include "kernels/linear/narrow_cpu.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr int kRows = 2;             // of one block
constexpr int64_t kStagedRows = 48;  // widened at once
constexpr int64_t kTile = kBlockK * kPanel;
constexpr int kTiles = kGroupK / kBlockK;
constexpr int64_t kPrefetch = 4096;  // bytes ahead of the reader

inline void prefetch(const std::byte* from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(from) + kPrefetch + i, _MM_HINT_T0);
  }
}

/// One row: the tiles side by side, for the adds' latency; their sums in order.
F32x16 row_sums(const float* x, const BFloat16* w) {
  F32x16 even[kTiles], odd[kTiles];
#pragma GCC unroll 4
  for (int t = 0; t < kTiles; ++t) even[t] = odd[t] = zero16();
  for (int64_t pair = 0; pair < kBlockK / 2; ++pair) {
#pragma GCC unroll 4
    for (int t = 0; t < kTiles; ++t) {
      const BFloat16* from = w + t * kTile + pair * 2 * kPanel;
      const float* value = x + t * kBlockK + 2 * pair;
      even[t] = fma16(set16(value[0]), load_even16(from), even[t]);
      odd[t] = fma16(set16(value[1]), load_odd16(from), odd[t]);
    }
  }
  F32x16 sum = zero16();
#pragma GCC unroll 4
  for (int t = 0; t < kTiles; ++t) sum = add16(sum, add16(even[t], odd[t]));
  return sum;
}

/// kRows rows, tile after tile.
void rows_sums(const float* const* x, int64_t k0, const BFloat16* w, F32x16 (&sum)[kRows]) {
  for (F32x16& s : sum) s = zero16();
  for (int64_t t = 0; t < kTiles; ++t, w += kTile, k0 += kBlockK) {
    F32x16 even[kRows], odd[kRows];
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) even[r] = odd[r] = zero16();
    for (int64_t pair = 0; pair < kBlockK / 2; ++pair) {
      const F32x16 w_even = load_even16(w + pair * 2 * kPanel);
      const F32x16 w_odd = load_odd16(w + pair * 2 * kPanel);
#pragma GCC unroll 2
      for (int r = 0; r < kRows; ++r) {
        even[r] = fma16(set16(x[r][k0 + 2 * pair]), w_even, even[r]);
        odd[r] = fma16(set16(x[r][k0 + 2 * pair + 1]), w_odd, odd[r]);
      }
    }
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) sum[r] = add16(sum[r], add16(even[r], odd[r]));
  }
}

class NarrowPart {
 public:
  NarrowPart(const LinearArgs& args, const LinearPart& part)
      : args_(args),
        part_(part),
        format_(args.weight->format()),
        groups_(ceil_div(args.weight->k(), kGroupK)),
        turn_(std::min(kStagedRows, part.row_end - part.row_begin)) {
    const int64_t floats = turn_ * (groups_ * kGroupK + kPanel);
    totals_ = reinterpret_cast<float*>(
        thread_scratch(floats * int64_t{sizeof(float)}, ScratchSlot::kLinear));
    for (int64_t i = 0; i < turn_; ++i) {
      x_[i] = totals_ + turn_ * kPanel + i * groups_ * kGroupK;
    }
  }

  void run() {
    for (int64_t row = part_.row_begin; row < part_.row_end; row += turn_) {
      const int64_t count = std::min(turn_, part_.row_end - row);
      for (int64_t i = 0; i < count; ++i) widen(row + i, x_[i]);
      for (int64_t p = part_.panel_begin; p < part_.panel_end; ++p) panel(row, count, p);
    }
  }

 private:
  void widen(int64_t row, float* out) const {
    const auto* x = static_cast<const BFloat16*>(args_.x) + memory_row(args_, row) * args_.x_stride;
    const int64_t k = args_.weight->k();
    for (int64_t i = 0; i < k; i += 16) store_part16(out + i, load_part16(x + i, k - i), k - i);
    std::fill(out + k, out + groups_ * kGroupK, 0.0f);
  }

  void panel(int64_t row, int64_t count, int64_t p) {
    const int64_t code_bytes = group_code_bytes(format_);
    const std::byte* group =
        args_.weight->data() + p * quantized_panel_bytes(format_, args_.weight->k());
    std::fill(totals_, totals_ + count * kPanel, 0.0f);
    for (int64_t g = 0; g < groups_; ++g, group += code_bytes + kScaleBytes) {
      prefetch(group, code_bytes + kScaleBytes);
      unpack_group(format_, group, tiles_);
      const F32x16 scales = load16(reinterpret_cast<const float*>(group + code_bytes));
      const int64_t k0 = g * kGroupK;
      int64_t i = 0;
      for (; i + kRows <= count; i += kRows) {
        F32x16 sums[kRows];
        rows_sums(x_ + i, k0, tiles_, sums);
        for (int r = 0; r < kRows; ++r) add_to(totals_ + (i + r) * kPanel, sums[r], scales);
      }
      if (i < count) add_to(totals_ + i * kPanel, row_sums(x_[i] + k0, tiles_), scales);
    }
    store_rows(args_, row, count, p, totals_);
  }

  static void add_to(float* total, F32x16 sum, F32x16 scales) {
    store16(total, fma16(sum, scales, load16(total)));
  }

  const LinearArgs& args_;
  const LinearPart& part_;
  WeightFormat format_;
  int64_t groups_, turn_;
  float* totals_ = nullptr;  // [rows of a turn][16]
  float* x_[kStagedRows];
  alignas(64) BFloat16 tiles_[kGroupElements];
};

}  // namespace

void linear_narrow(const LinearArgs& args, const LinearPart& part) { NarrowPart(args, part).run(); }

}  // namespace mole::kernels::MOLE_ISA
