// linear with int8 factors where there are no instructions for it: bytes are widened to 16 bits,
// whose pairwise products and sums fit 32 bits. (AVX2's own byte multiply saturates.)
#include <algorithm>
#include <cstring>

#include "kernels/linear/int8_finish.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr int kRows = 2;             // of one block
constexpr int64_t kStagedRows = 64;  // quantised at once
constexpr int64_t kPrefetch = 2048;  // bytes ahead of the reader

inline __m256i widened_quad(const int8_t* x) {
  int32_t quad;
  std::memcpy(&quad, x, sizeof(quad));
  return _mm256_cvtepi8_epi16(_mm_set1_epi32(quad));
}

/// Sums over `quads` quads of k of R rows by the panel's 16 outputs.
template <int R>
void dot(const int8_t* const (&x)[R], const std::byte* w, int64_t quads, I32x16 (&sums)[R]) {
  __m256i sum[R][4];
#pragma GCC unroll 2
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) sum[r][i] = _mm256_setzero_si256();
  }
  for (int64_t q = 0; q < quads; ++q, w += 64) {
    _mm_prefetch(reinterpret_cast<const char*>(w) + kPrefetch, _MM_HINT_T0);
    __m256i quad[R];
#pragma GCC unroll 2
    for (int r = 0; r < R; ++r) quad[r] = widened_quad(x[r] + 4 * q);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {  // four outputs each
      const __m256i weight =
          _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w + 16 * i)));
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) {
        sum[r][i] = _mm256_add_epi32(sum[r][i], _mm256_madd_epi16(weight, quad[r]));
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    // Pairs of lanes make one output; hadd works within halves of a register, hence the order.
    const __m256i low = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][0], sum[r][1]), 0xd8);
    const __m256i high = _mm256_permute4x64_epi64(_mm256_hadd_epi32(sum[r][2], sum[r][3]), 0xd8);
    alignas(64) int32_t lanes[16];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes + 8), high);
    sums[r] = load_int16(lanes);
  }
}

template <int R>
void block(const LinearArgs& args, const Int8Panels& panels, const Int8Rows& x, int64_t first,
           int64_t row, int64_t panel) {
  F32x16 total[R];
  for (F32x16& sum : total) sum = zero16();
  const int64_t quads = panels.run_tiles() * kInt8TileK / 4;
  for (int64_t run = 0; run < x.runs; ++run) {
    const int8_t* codes[R];
    for (int r = 0; r < R; ++r) codes[r] = x.codes + (first + r) * x.stride + run * x.run;
    I32x16 sums[R];
    dot<R>(codes, panels.codes(panel, run), quads, sums);
    const float* scales = panels.scales(panel, run);
    for (int r = 0; r < R; ++r) {
      const float scale = x.scales[(first + r) * x.runs + run];
      total[r] = panels.format == WeightFormat::kInt8
                     ? finish_run(sums[r], scale, scales)
                     : finish_group(sums[r], scale, scales, total[r]);
    }
  }
  for (int r = 0; r < R; ++r) store_panel(args, row + r, panel, total[r]);
}

}  // namespace

void linear_int8(const LinearArgs& args, const LinearPart& part) {
  const Int8Panels panels(*args.weight);
  const Int8Turns turns(args, part, kStagedRows);
  for (int64_t row = part.row_begin; row < part.row_end; row += turns.rows()) {
    const int64_t count = std::min(turns.rows(), part.row_end - row);
    const Int8Rows x = turns.take(row, count);
    for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
      int64_t i = 0;
      for (; i + kRows <= count; i += kRows) block<kRows>(args, panels, x, i, row + i, panel);
      if (i < count) block<1>(args, panels, x, i, row + i, panel);
    }
  }
}

}  // namespace mole::kernels::MOLE_ISA
