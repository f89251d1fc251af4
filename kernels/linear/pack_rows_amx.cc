// Rows of x in the order of the matrix units (pack_rows in linear_impl.h): rows at a large stride
// would fall into the same cache sets, and edges are filled with zeros here.
#include <immintrin.h>

#include <algorithm>

#include "kernels/cpu/transpose.h"
#include "kernels/linear/linear_impl.h"

namespace mole::kernels {
namespace avx512 {
namespace {

/// Row-major x: `rows` (1 … 16) tile rows of which `count` exist, for 32 k from k0.
void pack_tile(const LinearArgs& args, int64_t row, int64_t count, int64_t rows, int64_t k0,
               BFloat16* out) {
  const int64_t depth = std::min(kBlockK, args.weight->k() - k0);
  const auto mask = static_cast<__mmask32>((uint64_t{1} << depth) - 1);
  for (int64_t i = 0; i < rows; ++i) {
    __m512i line = _mm512_setzero_si512();
    if (i < count) {
      const auto* x =
          static_cast<const BFloat16*>(args.x) + memory_row(args, row + i) * args.x_stride + k0;
      line = _mm512_maskz_loadu_epi16(mask, x);
    }
    _mm512_storeu_si512(out + i * kBlockK, line);
  }
}

/// The same from transposed x.
void pack_tile_transposed(const LinearArgs& args, int64_t row, int64_t count, int64_t rows,
                          int64_t k0, BFloat16* out) {
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
  for (int64_t i = 0; i < rows; ++i) _mm512_storeu_si512(out + i * kBlockK, turned[i]);
}

}  // namespace
}  // namespace avx512

void pack_rows(const LinearArgs& args, int64_t row, int64_t count, int64_t block_begin,
               int64_t block_end, BFloat16* out) {
  const int64_t depth = padded_k(args.weight->k());
  auto pack = args.x_transposed ? avx512::pack_tile_transposed : avx512::pack_tile;
  auto tile = [&](int64_t block, int64_t k0) {
    const int64_t first = block * kTileRows, left = count - first;
    const int64_t rows = std::min(kTileRows, tiled_rows(count) - first);
    pack(args, row + first, std::min(kTileRows, left), rows, k0, out + first * depth + k0 * rows);
  };
  if (args.x_transposed) {
    // Along the lines of memory: a line holds the same k of many rows.
    for (int64_t k0 = 0; k0 < depth; k0 += kBlockK) {
      for (int64_t block = block_begin; block < block_end; ++block) tile(block, k0);
    }
    return;
  }
  for (int64_t block = block_begin; block < block_end; ++block) {
    for (int64_t k0 = 0; k0 < depth; k0 += kBlockK) tile(block, k0);
  }
}

}  // namespace mole::kernels
