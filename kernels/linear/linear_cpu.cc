// linear without matrix units: blocks of rows by panels whose sums stay in registers.
#include <algorithm>

#include "kernels/cpu/scratch.h"
#include "kernels/cpu/transpose.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels::MOLE_ISA {
namespace {

// Rows and panels of a block, as many sums as the registers hold: float32 needs one chain a sum,
// bfloat16 three (even, odd, total). One or two rows take more panels: memory's prefetchers follow
// several streams faster than one.
#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int kRowsF32 = 6, kPanelsF32 = 4, kRowPanelsF32 = 8;
constexpr int kRowsBf16 = 4, kPanelsBf16 = 2, kRowPanelsBf16 = 8;
#else
constexpr int kRowsF32 = 6, kPanelsF32 = 1, kRowPanelsF32 = 4;
constexpr int kRowsBf16 = 2, kPanelsBf16 = 1, kRowPanelsBf16 = 2;
#endif
// Rows that are widened or turned at once: small enough for the second-level cache.
constexpr int64_t kStagedRows = 48;
// Bytes ahead of the reader in each panel, for weights that come from memory.
constexpr int64_t kPrefetch = 2048;
// Rows up to which memory sets the pace.
constexpr int kFewRows = 2;

/// From an element of the first of `panels` panels that are read side by side, in bytes, to what is
/// to be fetched meanwhile: the same panel's, or at its end the start of what comes next.
inline int64_t ahead_of(int64_t done, int64_t panel_bytes, int64_t to_next) {
  return done + kPrefetch < panel_bytes ? kPrefetch : kPrefetch - panel_bytes + to_next;
}

struct F32Kernel {
  using Weight = float;
  static constexpr int kRows = kRowsF32, kPanels = kPanelsF32, kRowPanels = kRowPanelsF32;

  template <int R, int P>
  static void sums(const float* const* x, const float* w, int64_t panel, int64_t k, int64_t to_next,
                   F32x16 (&total)[R][P]) {
#pragma GCC unroll 8
    for (auto& row : total) {
#pragma GCC unroll 8
      for (auto& sum : row) sum = zero16();
    }
    const int64_t bytes = panel * static_cast<int64_t>(sizeof(float));
    for (int64_t i = 0; i < k; ++i) {
      const int64_t ahead = ahead_of(i * kPanel * 4, bytes, to_next);
      F32x16 weight[P];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const float* from = w + p * panel + i * kPanel;
        if constexpr (R <= kFewRows)
          _mm_prefetch(reinterpret_cast<const char*>(from) + ahead, _MM_HINT_T0);
        weight[p] = load16(from);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F32x16 value = set16(x[r][i]);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) total[r][p] = fma16(value, weight[p], total[r][p]);
      }
    }
  }
};

struct Bf16Kernel {
  using Weight = BFloat16;
  static constexpr int kRows = kRowsBf16, kPanels = kPanelsBf16, kRowPanels = kRowPanelsBf16;

  /// One block of 32 k, as TDPBF16PS adds it.
  template <int R, int P>
  static void block(const float* const* x, int64_t k0, const BFloat16* w, int64_t panel,
                    int64_t ahead, F32x16 (&total)[R][P]) {
    F32x16 even[R][P], odd[R][P];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) even[r][p] = odd[r][p] = zero16();
    }
#pragma GCC unroll 1
    for (int64_t pair = 0; pair < kBlockK / 2; ++pair) {
      F32x16 weight_even[P], weight_odd[P];
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const BFloat16* from = w + p * panel + pair * 2 * kPanel;
        if constexpr (R <= kFewRows)
          _mm_prefetch(reinterpret_cast<const char*>(from) + ahead, _MM_HINT_T0);
        weight_even[p] = load_even16(from);
        weight_odd[p] = load_odd16(from);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const F32x16 x_even = set16(x[r][k0 + 2 * pair]), x_odd = set16(x[r][k0 + 2 * pair + 1]);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          even[r][p] = fma16(x_even, weight_even[p], even[r][p]);
          odd[r][p] = fma16(x_odd, weight_odd[p], odd[r][p]);
        }
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) total[r][p] = add16(total[r][p], add16(even[r][p], odd[r][p]));
    }
  }

  template <int R, int P>
  static void sums(const float* const* x, const BFloat16* w, int64_t panel, int64_t k,
                   int64_t to_next, F32x16 (&total)[R][P]) {
#pragma GCC unroll 8
    for (auto& row : total) {
#pragma GCC unroll 8
      for (auto& sum : row) sum = zero16();
    }
    const int64_t bytes = panel * static_cast<int64_t>(sizeof(BFloat16));
    for (int64_t k0 = 0; k0 < k; k0 += kBlockK, w += kBlockK * kPanel) {
      block<R, P>(x, k0, w, panel, ahead_of(k0 * kPanel * 2, bytes, to_next), total);
    }
  }
};

template <typename Kernel>
class Walker {
 public:
  explicit Walker(const LinearArgs& args)
      : args_(args),
        weight_(reinterpret_cast<const typename Kernel::Weight*>(args.weight->data())),
        panel_(panel_elements(args.weight->dtype(), args.weight->k())) {}

  /// Rows [row, row + count) of the output, x[i] the values of row + i.
  void rows(const float* const* x, int64_t row, int64_t count, const LinearPart& part) const {
    int64_t panel = part.panel_begin;
    while (panel < part.panel_end) {
      const int64_t left = part.panel_end - panel;
      int64_t wide = left < Kernel::kPanels ? 1 : Kernel::kPanels;
      if (count <= kFewRows) {
        wide = Kernel::kRowPanels / count;
        while (wide > left) wide /= 2;
      }
      // In bytes, to what is read after these panels.
      const auto* here = reinterpret_cast<const std::byte*>(weight_ + panel * panel_);
      const bool last = left == wide && part.next != nullptr;
      const int64_t to_next = last ? part.next - here : wide * panel_ * kElement;
      if (count == 1) {
        few<1, Kernel::kRowPanels>(wide, x, row, panel, to_next);
      } else if (count == 2) {
        few<2, Kernel::kRowPanels / 2>(wide, x, row, panel, to_next);
      } else {
        for (int64_t i = 0; i < count; i += Kernel::kRows) {
          const int64_t tile = std::min<int64_t>(Kernel::kRows, count - i);
          if (wide > 1) {
            choose<Kernel::kRows, Kernel::kPanels>(tile, x + i, row + i, panel, to_next);
          } else {
            choose<Kernel::kRows, 1>(tile, x + i, row + i, panel, to_next);
          }
        }
      }
      panel += wide;
    }
  }

 private:
  static constexpr int64_t kElement = sizeof(typename Kernel::Weight);

  /// `panels` is P, or P halved until it fits what is left.
  template <int R, int P>
  void few(int64_t panels, const float* const* x, int64_t row, int64_t panel,
           int64_t to_next) const {
    if (panels == P) return block<R, P>(x, row, panel, to_next);
    if constexpr (P > 1) few<R, P / 2>(panels, x, row, panel, to_next);
  }

  template <int R, int P>
  void choose(int64_t count, const float* const* x, int64_t row, int64_t panel,
              int64_t to_next) const {
    if (count == R) return block<R, P>(x, row, panel, to_next);
    if constexpr (R > 1) choose<R - 1, P>(count, x, row, panel, to_next);
  }

  template <int R, int P>
  void block(const float* const* x, int64_t row, int64_t panel, int64_t to_next) const {
    F32x16 total[R][P];
    Kernel::template sums<R, P>(x, weight_ + panel * panel_, panel_, args_.weight->k(), to_next,
                                total);
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) store_panel(args_, row + r, panel + p, total[r][p]);
    }
  }

  const LinearArgs& args_;
  const typename Kernel::Weight* weight_;
  int64_t panel_;
};

/// One row of x as float32, padded with zeros to `padded`.
template <typename T>
void stage_row(const LinearArgs& args, int64_t row, int64_t padded, float* out) {
  const T* x = static_cast<const T*>(args.x) + memory_row(args, row) * args.x_stride;
  const int64_t k = args.weight->k();
  for (int64_t i = 0; i < k; i += 16) store_part16(out + i, load_part16(x + i, k - i), k - i);
  std::fill(out + k, out + padded, 0.0f);
}

/// Rows [row, row + count) of transposed x, likewise, in blocks of 16 rows by 16 k.
template <typename T>
void stage_transposed(const LinearArgs& args, int64_t row, int64_t count, int64_t padded,
                      float* out) {
  const auto* x = static_cast<const T*>(args.x) + row;
  alignas(64) float lines[16 * 16], turned[16 * 16];
  for (int64_t i = 0; i < count; i += 16) {
    for (int64_t k0 = 0; k0 < padded; k0 += 16) {
      for (int64_t k = k0; k < k0 + 16; ++k) {
        const bool inside = k < args.weight->k();
        store16(lines + 16 * (k - k0),
                inside ? load_part16(x + memory_row(args, k) * args.x_stride + i, count - i)
                       : zero16());
      }
      transpose16(lines, 16 * sizeof(float), reinterpret_cast<uint32_t*>(turned));
      for (int64_t r = 0; r < std::min(int64_t{16}, count - i); ++r) {
        store16(out + (i + r) * padded + k0, load16(turned + 16 * r));
      }
    }
  }
}

/// Rows in turns of kStagedRows, copied to working memory as float32.
template <typename Kernel>
void run_staged(const LinearArgs& args, const LinearPart& part) {
  const Walker<Kernel> walker(args);
  const int64_t padded = ceil_div(args.weight->k(), kBlockK) * kBlockK;
  const int64_t turn = std::min(kStagedRows, part.row_end - part.row_begin);
  auto* staged = reinterpret_cast<float*>(
      thread_scratch(turn * padded * static_cast<int64_t>(sizeof(float)), ScratchSlot::kLinear));
  const float* rows[kStagedRows];
  for (int64_t i = 0; i < turn; ++i) rows[i] = staged + i * padded;
  for (int64_t row = part.row_begin; row < part.row_end; row += turn) {
    const int64_t count = std::min(turn, part.row_end - row);
    if (args.x_transposed) {
      stage_transposed<typename Kernel::Weight>(args, row, count, padded, staged);
    } else {
      for (int64_t i = 0; i < count; ++i) {
        stage_row<typename Kernel::Weight>(args, row + i, padded, staged + i * padded);
      }
    }
    walker.rows(rows, row, count, part);
  }
}

}  // namespace

void linear_f32(const LinearArgs& args, const LinearPart& part) {
  if (args.x_transposed) return run_staged<F32Kernel>(args, part);
  const Walker<F32Kernel> walker(args);
  const auto* x = static_cast<const float*>(args.x);
  const float* rows[kStagedRows];
  for (int64_t row = part.row_begin; row < part.row_end; row += kStagedRows) {
    const int64_t count = std::min(kStagedRows, part.row_end - row);
    for (int64_t i = 0; i < count; ++i) {
      rows[i] = x + memory_row(args, row + i) * args.x_stride;
    }
    walker.rows(rows, row, count, part);
  }
}

void linear_bf16(const LinearArgs& args, const LinearPart& part) {
  run_staged<Bf16Kernel>(args, part);
}

}  // namespace mole::kernels::MOLE_ISA
