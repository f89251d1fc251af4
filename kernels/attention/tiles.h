// The register-blocked products that attention and its gradient are made of, and the packing of
// keys and values for them. Every output element is one FMA chain in ascending order of the inner
// index, so no result depends on how rows are grouped into tiles.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/attention/lanes.h"
#include "kernels/cpu/transpose.h"

namespace mole::kernels::MOLE_ISA {

inline constexpr int32_t kTileRows = 4;
inline constexpr int32_t kGroups = kAttentionBlock / 16;  // of sixteen keys
// AVX2 has sixteen registers of eight lanes, so its tiles are a quarter as large.
#if defined(__AVX512F__) && defined(__AVX512BW__)
inline constexpr int32_t kStepRows = 4, kStepVectors = 4;
#else
inline constexpr int32_t kStepRows = 2, kStepVectors = 2;
#endif

inline int64_t round_up16(int64_t n) { return (n + 15) / 16 * 16; }

/// c[i * c_stride + 16 g + lane] = scale * sum_d a[i * a_stride + d] * panels[g][16 d + lane].
template <int R, int G>
void score_step(const float* a, int64_t a_stride, const float* panels, int64_t panel_stride,
                int64_t dims, float scale, float* c) {
  F32x16 sum[R][G];
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) sum[i][g] = zero16();
  }
  for (int64_t d = 0; d < dims; ++d) {
    F32x16 b[G];
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) b[g] = load16(panels + g * panel_stride + 16 * d);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const F32x16 x = set16(a[i * a_stride + d]);
#pragma GCC unroll 4
      for (int g = 0; g < G; ++g) sum[i][g] = fma16(x, b[g], sum[i][g]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int g = 0; g < G; ++g) {
      store16(c + i * kAttentionBlock + 16 * g, mul16(sum[i][g], set16(scale)));
    }
  }
}

template <int R>
void score_rows(const float* a, int64_t a_stride, const float* panels, int64_t panel_stride,
                int64_t dims, float scale, float* c, int32_t groups) {
  int32_t g = 0;
  for (; g + kStepVectors <= groups; g += kStepVectors) {
    score_step<R, kStepVectors>(a, a_stride, panels + g * panel_stride, panel_stride, dims, scale,
                                c + 16 * g);
  }
  for (; g < groups; ++g) {
    score_step<R, 1>(a, a_stride, panels + g * panel_stride, panel_stride, dims, scale, c + 16 * g);
  }
}

/// Products of `rows` rows of a with the keys of the first `groups` panels; c has 64 columns.
inline void score_tile(int32_t rows, const float* a, int64_t a_stride, const float* panels,
                       int64_t panel_stride, int64_t dims, float scale, float* c, int32_t groups) {
  int32_t i = 0;
  for (; i + kStepRows <= rows; i += kStepRows) {
    score_rows<kStepRows>(a + i * a_stride, a_stride, panels, panel_stride, dims, scale,
                          c + i * kAttentionBlock, groups);
  }
  for (; i < rows; ++i) {
    score_rows<1>(a + i * a_stride, a_stride, panels, panel_stride, dims, scale,
                  c + i * kAttentionBlock, groups);
  }
}

/// A matrix that is read one element at a time: element (i, k) at data[i * row + k * column].
struct Broadcast {
  const float* data;
  int64_t row, column;
};

/// c[i][v] += sum_k a(i, k) * b[k][v] over V vectors; k ascending, the chain starting from c.
template <int R, int V>
void accumulate_step(Broadcast a, const float* b, int64_t b_stride, int64_t count, float* c,
                     int64_t c_stride) {
  F32x16 sum[R][V];
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[i][v] = load16(c + i * c_stride + 16 * v);
  }
  for (int64_t k = 0; k < count; ++k) {
    F32x16 x[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) x[v] = load16(b + k * b_stride + 16 * v);
#pragma GCC unroll 4
    for (int i = 0; i < R; ++i) {
      const F32x16 y = set16(a.data[i * a.row + k * a.column]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[i][v] = fma16(y, x[v], sum[i][v]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store16(c + i * c_stride + 16 * v, sum[i][v]);
  }
}

template <int R>
void accumulate_rows(Broadcast a, const float* b, int64_t b_stride, int64_t count, float* c,
                     int64_t c_stride, int64_t width) {
  int64_t v = 0;
  for (; v + 16 * kStepVectors <= width; v += 16 * kStepVectors) {
    accumulate_step<R, kStepVectors>(a, b + v, b_stride, count, c + v, c_stride);
  }
  if constexpr (kStepVectors > 2) {
    for (; v + 32 <= width; v += 32) {
      accumulate_step<R, 2>(a, b + v, b_stride, count, c + v, c_stride);
    }
  }
  for (; v < width; v += 16) accumulate_step<R, 1>(a, b + v, b_stride, count, c + v, c_stride);
}

/// c[rows][width] += a[rows][count] * b[count][width]; width is a multiple of 16.
inline void accumulate(int64_t rows, Broadcast a, const float* b, int64_t b_stride, int64_t count,
                       float* c, int64_t c_stride, int64_t width) {
  int64_t i = 0;
  for (; i + kStepRows <= rows; i += kStepRows) {
    accumulate_rows<kStepRows>({a.data + i * a.row, a.row, a.column}, b, b_stride, count,
                               c + i * c_stride, c_stride, width);
  }
  for (; i < rows; ++i) {
    accumulate_rows<1>({a.data + i * a.row, a.row, a.column}, b, b_stride, count, c + i * c_stride,
                       c_stride, width);
  }
}

/// One row as float32: `count` elements, zeros to the next multiple of 16.
template <typename T>
void widen_row(const T* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += 16) store16(to + i, load_partial16(from + i, count - i));
}

/// Rows of `count` elements to [keys][width] float32.
template <typename T>
void widen_rows(const T* from, int64_t stride, int64_t keys, int64_t count, float* to,
                int64_t width) {
  for (int64_t j = 0; j < keys; ++j) widen_row(from + j * stride, count, to + j * width);
}

/// Turns float32 rows [64][width], width a multiple of 16, into panels: panels[g] is [width][16
/// keys].
inline void turn_rows(const float* rows, int64_t width, float* panels) {
  for (int32_t g = 0; g < kGroups; ++g) {
    for (int64_t d = 0; d < width; d += 16) {
      transpose16(rows + 16 * g * width + d, width * 4,
                  reinterpret_cast<uint32_t*>(panels + g * 16 * width + 16 * d));
    }
  }
}

/// The keys of one block: rows [64][width] of the per-head part followed by the shared part, zeros
/// after and past `keys`.
template <typename T>
void widen_keys(const AttentionArgs& args, int32_t kv_head, int64_t block, int64_t keys,
                int64_t width, float* to) {
  const T* key = static_cast<const T*>(args.key_blocks[block]) + kv_head * args.key_head_stride;
  for (int64_t j = 0; j < kAttentionBlock; ++j) {
    float* row = to + j * width;
    if (j >= keys) {
      for (int64_t d = 0; d < width; d += 16) store16(row + d, zero16());
      continue;
    }
    const T* from = key + j * args.key_row_stride;
    widen_row(from, args.key_dim, row);
    if (args.shared_dim == 0) continue;
    const T* shared = static_cast<const T*>(args.shared_blocks[block]) + j * args.shared_row_stride;
    for (int64_t d = round_up16(args.key_dim); d < width; d += 16) store16(row + d, zero16());
    for (int64_t d = 0; d < args.shared_dim; d += 16) {
      const int64_t count = args.shared_dim - d;
      store_partial16(row + args.key_dim + d, load_partial16(shared + d, count), count);
    }
  }
}

/// The query of row r (see attention_rows.h), laid out as widen_keys lays out a key.
template <typename T>
void widen_query(const AttentionArgs& args, int64_t t, int32_t head, int64_t width, float* to) {
  for (int64_t d = 0; d < width; d += 16) store16(to + d, zero16());
  const T* q = static_cast<const T*>(args.q) + t * args.q_row_stride + head * args.q_head_stride;
  for (int32_t d = 0; d < args.key_dim; ++d) to[d] = widen(q[d]);
  if (args.shared_dim == 0) return;
  const T* shared = static_cast<const T*>(args.q_shared) + t * args.q_shared_row_stride +
                    head * args.q_shared_head_stride;
  for (int32_t d = 0; d < args.shared_dim; ++d) to[args.key_dim + d] = widen(shared[d]);
}

}  // namespace mole::kernels::MOLE_ISA
