// Probabilities of one tile of rows over one span, and the merge of two states.
#pragma once

#include <cmath>

#include "kernels/attention/attention_spans.h"
#include "kernels/attention/span_math.h"
#include "kernels/cpu/transpose.h"

namespace mole::kernels::MOLE_ISA {

inline constexpr int64_t kTileElements = kTileRows * 32;  // bfloat16 of a tile, 1 KiB

/// Largest score, sum of rounded and of unrounded probabilities of a tile's rows.
struct TileSums {
  F32x16 largest, sum, exact;
};
inline TileSums load_sums(const float* state) {
  return {load16(state), load16(state + 16), load16(state + 32)};
}
inline void store_sums(float* state, const TileSums& sums) {
  store16(state, sums.largest);
  store16(state + 16, sums.sum);
  store16(state + 32, sums.exact);
}

/// Sums the lanes' sixteen chains as fold_sum16 sums one row's: (i, i+8), (i, i+4), (i, i+2), (i,
/// i+1).
inline F32x16 fold_chains(F32x16* chain) {
  for (int width = 8; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) chain[i] = add16(chain[i], chain[i + width]);
  }
  return chain[0];
}

/// Scales the products s [keys][16 rows] to scores and masks them: row i sees the first limit[i]
/// keys. Returns their maxima. All rows see the first `common` keys; keys from `computed` on hold
/// nothing yet.
inline F32x16 scale_and_mask(float* s, int64_t keys, int64_t computed, int64_t common, float scale,
                             F32x16 limit) {
  const F32x16 factor = set16(scale);
  F32x16 most[4] = {set16(kLowest), set16(kLowest), set16(kLowest), set16(kLowest)};
  const int64_t whole = common / 4 * 4;
  for (int64_t j = 0; j < whole; j += 4) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) {
      const F32x16 score = mul16(load16(s + 16 * (j + i)), factor);
      store16(s + 16 * (j + i), score);
      most[i] = max16(most[i], score);
    }
  }
  for (int64_t j = whole; j < keys; ++j) {
    F32x16 score = set16(kLowest);
    if (j < computed) {
      score = keep_before(mul16(load16(s + 16 * j), factor), limit, static_cast<float>(j));
    }
    store16(s + 16 * j, score);
    most[0] = max16(most[0], score);
  }
  return max16(max16(most[0], most[1]), max16(most[2], most[3]));
}

/// Probabilities of scores s [keys][16 rows], rounded to bfloat16, as tiles [keys / 32][16 rows][32
/// keys]; keys is a multiple of 32. Without kExact the sum of the unrounded ones is left out: zero.
template <typename Rounding, bool kExact>
inline TileSums probabilities(const float* s, int64_t keys, F32x16 largest, BFloat16* tiles) {
  alignas(64) uint32_t pairs[(kAttentionSpan / 2) * kTileRows];
  F32x16 sum[16], exact[16];
  const F32x16 shift = shift_of(largest);
  for (int64_t c = 0; c < 16; c += 2) {
    F32x16 rounded0 = zero16(), rounded1 = zero16(), full0 = zero16(), full1 = zero16();
    for (int64_t j = c; j < keys; j += 16) {
      F32x16 p0 = exp16_below(sub16(load16(s + 16 * j), shift));
      F32x16 p1 = exp16_below(sub16(load16(s + 16 * j + 16), shift));
      if constexpr (kExact) {
        full0 = add16(full0, p0);
        full1 = add16(full1, p1);
      }
      Rounding::round_pairs(p0, p1, pairs + 8 * j);
      rounded0 = add16(rounded0, p0);
      rounded1 = add16(rounded1, p1);
    }
    sum[c] = rounded0;
    sum[c + 1] = rounded1;
    exact[c] = full0;
    exact[c + 1] = full1;
  }
  for (int64_t block = 0; block < keys / 32; ++block) {
    transpose16(pairs + block * 256, 64,
                reinterpret_cast<uint32_t*>(tiles + block * kTileElements));
  }
  return {largest, fold_chains(sum), kExact ? fold_chains(exact) : zero16()};
}

/// How the outputs of two states are weighted when they become one.
struct MergeFactors {
  alignas(64) float keep[16], take[16];
};

/// Adds `next` to `state`: both are scaled to the larger maximum.
inline void merge_sums(TileSums& state, const TileSums& next, MergeFactors& factors) {
  // A NaN in next.largest loses here, and comes back through its own factor.
  const F32x16 largest = max16(next.largest, state.largest), shift = shift_of(largest);
  const F32x16 keep = exp16_below(sub16(state.largest, shift));
  const F32x16 take = exp16_below(sub16(next.largest, shift));
  state.largest = largest;
  state.sum = fma16(next.sum, take, mul16(state.sum, keep));
  state.exact = fma16(next.exact, take, mul16(state.exact, keep));
  store16(factors.keep, keep);
  store16(factors.take, take);
}

/// The same for rows [begin, end) of `tiles` tiles [16 rows][16] of output.
inline void merge_output(float* total, const float* next, int64_t tiles,
                         const MergeFactors& factors, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const F32x16 keep = set16(factors.keep[row]), take = set16(factors.take[row]);
    for (int64_t at = 16 * row; at < 256 * tiles; at += 256) {
      store16(total + at, fma16(load16(next + at), take, mul16(load16(total + at), keep)));
    }
  }
}

/// Writes columns [begin, end) of a tile's rows [first_row, first_row + rows) to `out` and, with
/// the first column, logsumexp. `output` holds the tiles from column `begin` on.
inline void write_tile(const AttentionArgs& args, int32_t kv_head, int64_t first_row, int64_t rows,
                       const TileSums& sums, const float* output, int64_t begin, int64_t end) {
  alignas(64) float sum[16], exact[16], largest[16];
  store16(sum, sums.sum);
  store16(exact, sums.exact);
  store16(largest, sums.largest);
  const int64_t group = args.num_heads / args.num_kv_heads;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t t = (first_row + i) / group, head = kv_head * group + (first_row + i) % group;
    BFloat16* out =
        static_cast<BFloat16*>(args.out) + t * args.out_row_stride + head * args.out_head_stride;
    const F32x16 divisor = set16(sum[i]);
    for (int64_t column = begin; column < end; column += 32) {
      const float* from = output + (column - begin) * kTileRows + 16 * i;
      F32x16 first = load16(from), second = load16(from + 256);
      ordered_columns(first, second);
      // Adding zero makes -0 to +0, so that keys which count nothing leave no trace in a sign.
      first = add16(div16(first, divisor), zero16());
      second = add16(div16(second, divisor), zero16());
      const int64_t left = args.value_dim - column;
      store_partial16(out + column, first, left);
      if (left > 16) store_partial16(out + column + 16, second, left - 16);
    }
    if (begin == 0 && args.logsumexp != nullptr) {
      args.logsumexp[t * args.num_heads + head] = static_cast<float>(
          static_cast<double>(largest[i]) + std::log(static_cast<double>(exact[i])));
    }
  }
}

}  // namespace mole::kernels::MOLE_ISA
