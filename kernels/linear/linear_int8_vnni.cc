// linear with int8 factors by VPDPBUSD, for few rows: the weight's way from memory is what counts,
// so panels are read one after the other as one stream. The instruction multiplies unsigned by
// signed bytes: the weight is raised by 128, and 128 times the sum of x's codes is taken off again.
// The sums wrap around at 2^32 on the way and are right in the end.
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "kernels/linear/int8_finish.h"
#include "kernels/linear/store_block.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int kRows = 4;
constexpr int64_t kPrefetch = 4096;  // bytes ahead of the reader

inline __m512i quad_of(const int8_t* x) {
  int32_t quad;
  std::memcpy(&quad, x, sizeof(quad));
  return _mm512_set1_epi32(quad);
}

/// Sums over `tiles` tiles of R rows by 16 outputs, two chains a row (one row: four).
template <int R>
void vnni_dot(const int8_t* const (&x)[R], const std::byte* w, int64_t tiles, I32x16 (&sums)[R]) {
  constexpr int kChains = R == 1 ? 4 : 2;
  const __m512i raise = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i sum[R][kChains];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kChains; ++c) sum[r][c] = _mm512_setzero_si512();
  }
  for (int64_t t = 0; t < tiles; ++t, w += kInt8Tile) {
    const int64_t k = t * kInt8TileK;
#pragma GCC unroll 16
    for (int q = 0; q < 16; ++q) {
      const std::byte* line = w + 64 * q;
      _mm_prefetch(reinterpret_cast<const char*>(line) + kPrefetch, _MM_HINT_T0);
      const __m512i weight = _mm512_xor_si512(_mm512_loadu_si512(line), raise);
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        __m512i& chain = sum[r][q % kChains];
        chain = _mm512_dpbusd_epi32(chain, weight, quad_of(x[r] + k + 4 * q));
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    __m512i whole = _mm512_add_epi32(sum[r][0], sum[r][1]);
    if constexpr (kChains == 4) {
      whole = _mm512_add_epi32(whole, _mm512_add_epi32(sum[r][2], sum[r][3]));
    }
    sums[r].v = whole;
  }
}

template <int R>
void vnni_block(const LinearArgs& args, const Int8Panels& panels, const Int8Rows& x, int64_t first,
                int64_t row, int64_t panel) {
  F32x16 total[R];
  for (F32x16& sum : total) sum = zero16();
  for (int64_t run = 0; run < x.runs; ++run) {
    const int8_t* codes[R];
    for (int r = 0; r < R; ++r) codes[r] = x.codes + (first + r) * x.stride + run * x.run;
    I32x16 sums[R];
    vnni_dot<R>(codes, panels.codes(panel, run), panels.run_tiles(), sums);
    const float* scales = panels.scales(panel, run);
    for (int r = 0; r < R; ++r) {
      const int64_t at = (first + r) * x.runs + run;
      const uint32_t raised = uint32_t{128} * static_cast<uint32_t>(x.sums[at]);
      sums[r].v = _mm512_sub_epi32(sums[r].v, _mm512_set1_epi32(static_cast<int32_t>(raised)));
      total[r] = panels.format == WeightFormat::kInt8
                     ? finish_run(sums[r], x.scales[at], scales)
                     : finish_group(sums[r], x.scales[at], scales, total[r]);
    }
  }
  for (int r = 0; r < R; ++r) store_panel(args, row + r, panel, total[r]);
}

/// At most kRows rows.
template <int R>
void vnni_rows(const LinearArgs& args, const Int8Panels& panels, const Int8Rows& x, int64_t count,
               int64_t first, int64_t row, int64_t panel) {
  if (count == R) return vnni_block<R>(args, panels, x, first, row, panel);
  if constexpr (R > 1) vnni_rows<R - 1>(args, panels, x, count, first, row, panel);
}

}  // namespace
}  // namespace avx512

void linear_int8_vnni(const LinearArgs& args, const LinearPart& part) {
  using namespace avx512;  // NOLINT: this file's own parts
  constexpr int64_t kStagedRows = 64;
  const Int8Panels panels(*args.weight);
  const int64_t turn = std::min(kStagedRows, part.row_end - part.row_begin);
  const Int8Rows x = int8_rows_in_scratch(*args.weight, turn);
  for (int64_t row = part.row_begin; row < part.row_end; row += turn) {
    const int64_t count = std::min(turn, part.row_end - row);
    quantize_rows(args, row, count, x);
    for (int64_t panel = part.panel_begin; panel < part.panel_end; ++panel) {
      for (int64_t i = 0; i < count; i += kRows) {
        vnni_rows<kRows>(args, panels, x, std::min<int64_t>(kRows, count - i), i, row + i, panel);
      }
    }
  }
}

}  // namespace mole::kernels
