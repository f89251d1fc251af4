// The register-blocked products that attention and its gradient are made of. Every output element
// is one FMA chain in ascending order of the inner index, so no result depends on how rows are
// grouped into tiles.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/cpu/lanes.h"

namespace mole::kernels::MOLE_ISA {

inline constexpr int32_t kGroups = kAttentionBlock / 16;  // of sixteen keys

// Sums of R rows by V vectors stay in registers. Sixteen of them hide the latency of an FMA and
// leave room for operands in AVX-512's 32 registers; AVX2 has 16 of half the width, so four must
// do.
#if defined(__AVX512F__) && defined(__AVX512BW__)
inline constexpr int32_t kRowsAtOnce = 8, kMostVectors = 4, kPairRows = 8;
constexpr int32_t step_rows(int32_t vectors) { return vectors <= 2 ? 8 : 4; }
#else
inline constexpr int32_t kRowsAtOnce = 4, kMostVectors = 2, kPairRows = 2;
constexpr int32_t step_rows(int32_t vectors) { return vectors == 1 ? 4 : 2; }
#endif

/// How many of the `left` vectors to take next: no single one left over if it can be helped.
inline int32_t next_vectors(int64_t left) {
  if (left == kMostVectors + 1) return kMostVectors / 2 + 1;
  return static_cast<int32_t>(left < kMostVectors ? left : kMostVectors);
}

inline int64_t round_up16(int64_t n) { return (n + 15) / 16 * 16; }

/// A matrix that is read one element at a time: element (i, k) at data[i * row + k * column].
struct Broadcast {
  const float* data;
  int64_t row, column;
  Broadcast from_row(int64_t i) const { return {data + i * row, row, column}; }
};

/// Vector v of row k of a matrix: data[v * vector + k * row …], sixteen floats.
struct Lanes {
  const float* data;
  int64_t vector, row;
};

/// sum[i][v] += a(i, k) * b(k, v), k ascending.
template <int R, int V>
inline void multiply(Broadcast a, Lanes b, int64_t count, F32x16 (&sum)[R][V]) {
  for (int64_t k = 0; k < count; ++k) {
    F32x16 x[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) x[v] = load16(b.data + v * b.vector + k * b.row);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
      const F32x16 y = set16(a.data[i * a.row + k * a.column]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[i][v] = fma16(y, x[v], sum[i][v]);
    }
  }
}

/// What a product does with its sums: scores start from zero and are scaled, the others add to c.
struct Score {
  float scale;
  F32x16 begin(const float*) const { return zero16(); }
  F32x16 end(F32x16 sum) const { return mul16(sum, set16(scale)); }
};
struct Add {
  F32x16 begin(const float* c) const { return load16(c); }
  F32x16 end(F32x16 sum) const { return sum; }
};

template <int R, int V, typename Rule>
void product_step(Broadcast a, Lanes b, int64_t count, float* c, int64_t c_stride, Rule rule) {
  F32x16 sum[R][V];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[i][v] = rule.begin(c + i * c_stride + 16 * v);
  }
  multiply<R, V>(a, b, count, sum);
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) store16(c + i * c_stride + 16 * v, rule.end(sum[i][v]));
  }
}

template <int V, typename Rule>
void product_columns(int64_t rows, Broadcast a, Lanes b, int64_t count, float* c, int64_t c_stride,
                     Rule rule) {
  constexpr int kRows = step_rows(V);
  int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    product_step<kRows, V>(a.from_row(i), b, count, c + i * c_stride, c_stride, rule);
  }
  if constexpr (kRows == 8) {
    for (; i + 4 <= rows; i += 4) {
      product_step<4, V>(a.from_row(i), b, count, c + i * c_stride, c_stride, rule);
    }
  }
  for (; i < rows; ++i) {
    product_step<1, V>(a.from_row(i), b, count, c + i * c_stride, c_stride, rule);
  }
}

/// c[rows][vectors * 16] from a [rows][count] and b [count][vectors * 16].
template <typename Rule>
void product(int64_t rows, Broadcast a, Lanes b, int64_t count, float* c, int64_t c_stride,
             int64_t vectors, Rule rule) {
  for (int64_t v = 0; v < vectors;) {
    const int32_t next = next_vectors(vectors - v);
    const Lanes from{b.data + v * b.vector, b.vector, b.row};
    float* to = c + 16 * v;
    v += next;
    switch (next) {
      case 1:
        product_columns<1>(rows, a, from, count, to, c_stride, rule);
        break;
      case 2:
        product_columns<2>(rows, a, from, count, to, c_stride, rule);
        break;
      case 3:
        if constexpr (kMostVectors > 2) {
          product_columns<3>(rows, a, from, count, to, c_stride, rule);
        }
        break;
      default:
        if constexpr (kMostVectors > 2) {
          product_columns<4>(rows, a, from, count, to, c_stride, rule);
        }
    }
  }
}

/// c[i][16 g + lane] = scale * sum_d a[i * a_stride + d] * panels[g][16 d + lane], c having 64
/// columns: products of rows of a with the keys of the first `groups` panels of [panel_dims][16].
inline void score_tile(int32_t rows, const float* a, int64_t a_stride, const float* panels,
                       int64_t panel_dims, int64_t dims, float scale, float* c, int32_t groups) {
  product(rows, {a, a_stride, 1}, {panels, 16 * panel_dims, 16}, dims, c, kAttentionBlock, groups,
          Score{scale});
}

/// Sums of `count` products for R rows, as TDPBF16PS adds them: for each 32 an even and an odd
/// chain from zero, whose sum goes to `total`.
template <int R>
void add_pairs(Broadcast a, const float* panel, int64_t count, F32x16 (&total)[R]) {
  for (int64_t first = 0; first < count; first += 32) {
    const int64_t end = first + 32 < count ? first + 32 : count;
    F32x16 even[R], odd[R];
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) even[i] = odd[i] = zero16();
    for (int64_t d = first; d < end; ++d) {
      const F32x16 x = load16(panel + 16 * d);
      F32x16(&chain)[R] = d % 2 == 0 ? even : odd;
#pragma GCC unroll 8
      for (int i = 0; i < R; ++i) chain[i] = fma16(set16(a.data[i * a.row + d]), x, chain[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) total[i] = add16(total[i], add16(even[i], odd[i]));
  }
}

template <int R>
void score_pairs(const AttentionArgs& args, Broadcast a, const float* panel, float* c) {
  F32x16 total[R];
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) total[i] = zero16();
  add_pairs<R>(a, panel, args.key_dim, total);
  const Broadcast shared{a.data + args.key_dim, a.row, 1};
  add_pairs<R>(shared, panel + 16 * args.key_dim, args.shared_dim, total);
#pragma GCC unroll 8
  for (int i = 0; i < R; ++i) {
    store16(c + i * kAttentionBlock, mul16(total[i], set16(args.scale)));
  }
}

/// score_tile in the arithmetic of the forward in bfloat16.
inline void score_tile_bf16(const AttentionArgs& args, int32_t rows, const float* a,
                            int64_t a_stride, const float* panels, int64_t panel_dims, float* c,
                            int32_t groups) {
  for (int32_t g = 0; g < groups; ++g, panels += 16 * panel_dims, c += 16) {
    int32_t i = 0;
    for (; i + kPairRows <= rows; i += kPairRows) {
      score_pairs<kPairRows>(args, {a + i * a_stride, a_stride, 1}, panels,
                             c + i * kAttentionBlock);
    }
    for (; i < rows; ++i) {
      score_pairs<1>(args, {a + i * a_stride, a_stride, 1}, panels, c + i * kAttentionBlock);
    }
  }
}

/// c[rows][width] += a[rows][count] * b[count][width]; width is a multiple of 16.
inline void accumulate(int64_t rows, Broadcast a, const float* b, int64_t b_stride, int64_t count,
                       float* c, int64_t c_stride, int64_t width) {
  product(rows, a, {b, 16, b_stride}, count, c, c_stride, width / 16, Add{});
}

}  // namespace mole::kernels::MOLE_ISA
