// linear with int8 factors by VPDPBUSD, for few rows: the weight's way from memory is what counts,
// and memory's prefetchers follow several panels side by side faster than one. The instruction
// multiplies unsigned by signed bytes: the weight is raised by 128, and 128 times the sum of x's
// codes is taken off again. The sums wrap around at 2^32 on the way and are right in the end.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/linear/int8_finish.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int64_t kStagedRows = 64;
constexpr int64_t kPrefetch = 2048;  // bytes ahead of the reader in each panel

inline __m512i quad_of(const int8_t* x) {
  int32_t quad;
  std::memcpy(&quad, x, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

/// R rows from the turn's row `first` on by P panels from `panel` on.
template <int R, int P>
class VnniBlock {
 public:
  VnniBlock(const Int8Panels& panels, const Int8Rows& x, int64_t first, int64_t panel)
      : panels_(panels), x_(x), first_(first), panel_(panel) {}

  void run(const LinearArgs& args, int64_t row) {
    for (auto& line : total_) {
      for (F32x16& sum : line) sum = zero16();
    }
    for (int64_t run = 0; run < x_.runs; ++run) {
      I32x16 sums[R][P];
      dot(run, sums);
      finish(run, sums);
    }
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) store_panel(args, row + r, panel_ + p, total_[r][p]);
    }
  }

 private:
  void dot(int64_t run, I32x16 (&sums)[R][P]) const {
    const __m512i raise = _mm512_set1_epi8(static_cast<char>(0x80));
    __m512i sum[R][P];
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sum[r][p] = _mm512_setzero_si512();
    }
    const int8_t* x = x_.codes + first_ * x_.stride + run * x_.run;
    const std::byte* w = panels_.codes(panel_, run);
    const int64_t bytes = panels_.bytes;
    const int64_t last = bytes - kPrefetch - (w - panels_.panel(panel_));
    for (int64_t t = 0; t < panels_.run_tiles(); ++t, w += kInt8Tile, x += kInt8TileK) {
      // Past a panel's end comes the panel that will be read after it.
      const int64_t ahead = kPrefetch + (t * kInt8Tile < last ? 0 : (P - 1) * bytes);
#pragma GCC unroll 2
      for (int q = 0; q < 16; ++q) {
        __m512i quad[R];
#pragma GCC unroll 4
        for (int r = 0; r < R; ++r) quad[r] = quad_of(x + r * x_.stride + 4 * q);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
          const std::byte* line = w + p * bytes + 64 * q;
          _mm_prefetch(reinterpret_cast<const char*>(line) + ahead, _MM_HINT_T0);
          const __m512i weight = _mm512_xor_si512(_mm512_loadu_si512(line), raise);
#pragma GCC unroll 4
          for (int r = 0; r < R; ++r) {
            sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], weight, quad[r]);
          }
        }
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) sums[r][p].v = sum[r][p];
    }
  }

  void finish(int64_t run, I32x16 (&sums)[R][P]) {
    for (int r = 0; r < R; ++r) {
      const int64_t at = (first_ + r) * x_.runs + run;
      const uint32_t raised = uint32_t{128} * static_cast<uint32_t>(x_.sums[at]);
      const __m512i taken = _mm512_set1_epi32(static_cast<int32_t>(raised));
      for (int p = 0; p < P; ++p) {
        const I32x16 sum{_mm512_sub_epi32(sums[r][p].v, taken)};
        const float* scales = panels_.scales(panel_ + p, run);
        total_[r][p] = panels_.format == WeightFormat::kInt8
                           ? finish_run(sum, x_.scales[at], scales)
                           : finish_group(sum, x_.scales[at], scales, total_[r][p]);
      }
    }
  }

  const Int8Panels& panels_;
  const Int8Rows& x_;
  int64_t first_, panel_;
  F32x16 total_[R][P];
};

/// All rows of a turn by panels [panel, end), P side by side.
template <int R, int P>
void vnni_panels(const LinearArgs& args, const Int8Panels& panels, const Int8Rows& x, int64_t row,
                 int64_t count, int64_t panel, int64_t end) {
  for (; panel + P <= end; panel += P) {
    int64_t i = 0;
    for (; i + R <= count; i += R) VnniBlock<R, P>(panels, x, i, panel).run(args, row + i);
    for (; i < count; ++i) VnniBlock<1, P>(panels, x, i, panel).run(args, row + i);
  }
  if constexpr (P > 1) {
    if (panel < end) vnni_panels<R, P / 2>(args, panels, x, row, count, panel, end);
  }
}

}  // namespace
}  // namespace avx512

void linear_int8_vnni(const LinearArgs& args, const LinearPart& part) {
  const avx512::Int8Panels panels(*args.weight);
  const Int8Turns turns(args, part, avx512::kStagedRows);
  for (int64_t row = part.row_begin; row < part.row_end; row += turns.rows()) {
    const int64_t count = std::min(turns.rows(), part.row_end - row);
    const Int8Rows x = turns.take(row, count);
    if (count == 1) {
      avx512::vnni_panels<1, 8>(args, panels, x, row, count, part.panel_begin, part.panel_end);
    } else if (count == 2) {
      avx512::vnni_panels<2, 8>(args, panels, x, row, count, part.panel_begin, part.panel_end);
    } else {
      avx512::vnni_panels<4, 4>(args, panels, x, row, count, part.panel_begin, part.panel_end);
    }
  }
}

}  // namespace mole::kernels
