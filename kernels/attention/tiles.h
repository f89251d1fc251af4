// The register-blocked products that attention and its gradient are made of, and the packing of
// keys and values for them. Every output element is one FMA chain in ascending order of the inner
// index, so no result depends on how rows are grouped into tiles.
#pragma once

#include <cstdint>

#include "kernels/attention/attention.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/transpose.h"

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

/// Asks for `count` elements at p in the second-level cache.
template <typename T>
void prefetch(const T* p, int64_t count) {
  const auto* bytes = reinterpret_cast<const char*>(p);
  for (int64_t i = 0; i < count * static_cast<int64_t>(sizeof(T)); i += 64) {
    _mm_prefetch(bytes + i, _MM_HINT_T1);
  }
}

/// One row as float32: `count` elements, zeros to the next multiple of 16.
template <typename T>
void widen_row(const T* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += 16) store16(to + i, load_partial16(from + i, count - i));
}

/// Lanes become keys: dimension d of `keys` (at most 16) rows at `rows` goes to panel[16 d …],
/// lanes past `keys` are zero. Moves words of 32 bits: one float32, or two bfloat16 that are then
/// parted.
template <typename T>
void turn_part(const T* rows, int64_t stride, int64_t keys, int64_t dims, float* panel) {
  constexpr int64_t kChunk = 64 / sizeof(T);
  alignas(64) uint32_t words[256];
  alignas(64) T staged[16 * kChunk];
  for (int64_t d = 0; d < dims; d += kChunk) {
    const int64_t count = dims - d < kChunk ? dims - d : kChunk;
    const T* from = rows + d;
    int64_t from_stride = stride;
    if (keys < 16 || count < kChunk) {
      for (T& x : staged) x = T{};
      for (int64_t j = 0; j < keys; ++j) {
        __builtin_memcpy(staged + j * kChunk, from + j * stride,
                         static_cast<size_t>(count) * sizeof(T));
      }
      from = staged;
      from_stride = kChunk;
    }
    transpose16(from, from_stride * static_cast<int64_t>(sizeof(T)), words);
    float* to = panel + 16 * d;
    if constexpr (sizeof(T) == 4) {
      for (int64_t c = 0; c < count; ++c) {
        store16(to + 16 * c, load16(reinterpret_cast<const float*>(words + 16 * c)));
      }
    } else {
      for (int64_t c = 0; c < count; c += 2) {
        const auto* pairs = reinterpret_cast<const BFloat16*>(words + 8 * c);
        store16(to + 16 * c, load_even16(pairs));
        if (c + 1 < count) store16(to + 16 * c + 16, load_odd16(pairs));
      }
    }
  }
}

/// Both parts of one key or query, one after the other, zeros up to `width`.
template <typename T>
void widen_parts(const T* own, int64_t own_dim, const T* shared, int64_t shared_dim, int64_t width,
                 float* to) {
  for (int64_t d = round_up16(own_dim); d < width; d += 16) store16(to + d, zero16());
  widen_row(own, own_dim, to);
  for (int64_t d = 0; d < shared_dim; d += 16) {
    store_partial16(to + own_dim + d, load_partial16(shared + d, shared_dim - d), shared_dim - d);
  }
}

/// Where block `block` of a head begins, null for the block after the last.
template <typename T>
const T* block_of(const AttentionArgs& args, const void* const* blocks, int64_t block,
                  int64_t head_offset) {
  const int64_t context = args.first_position + args.num_queries;
  if (blocks == nullptr || block * kAttentionBlock >= context) return nullptr;
  return static_cast<const T*>(blocks[block]) + head_offset;
}

/// How many keys of a block lie in the context.
inline int64_t keys_of(const AttentionArgs& args, int64_t block) {
  const int64_t left = args.first_position + args.num_queries - block * kAttentionBlock;
  return left < kAttentionBlock ? left : kAttentionBlock;
}

/// The keys of one block as rows [64][width], zeros past the context.
template <typename T>
void widen_keys(const AttentionArgs& args, int32_t kv_head, int64_t block, int64_t width,
                float* to) {
  const int64_t offset = kv_head * args.key_head_stride;
  const T* own = block_of<T>(args, args.key_blocks, block, offset);
  const T* shared =
      block_of<T>(args, args.shared_dim == 0 ? nullptr : args.shared_blocks, block, 0);
  const int64_t keys = keys_of(args, block);
  for (int64_t j = 0; j < keys; ++j) {
    widen_parts(own + j * args.key_row_stride, args.key_dim,
                shared == nullptr ? nullptr : shared + j * args.shared_row_stride, args.shared_dim,
                width, to + j * width);
  }
  for (int64_t d = keys * width; d < kAttentionBlock * width; d += 16) store16(to + d, zero16());
}

/// The keys of one block as panels [4][width][16 keys], the shared part after the per-head one;
/// lanes past the context are zero, dimensions past both parts are left as they are. Asks for the
/// next block's keys.
template <typename T>
void turn_keys(const AttentionArgs& args, int32_t kv_head, int64_t block, int64_t width,
               float* panels) {
  const int64_t offset = kv_head * args.key_head_stride;
  const T* own = block_of<T>(args, args.key_blocks, block, offset);
  const T* next = block_of<T>(args, args.key_blocks, block + 1, offset);
  const T* shared =
      block_of<T>(args, args.shared_dim == 0 ? nullptr : args.shared_blocks, block, 0);
  const int64_t keys = keys_of(args, block);
  const int64_t next_keys = next == nullptr ? 0 : keys_of(args, block + 1);
  for (int64_t first = 0; first < kAttentionBlock; first += 16, panels += 16 * width) {
    for (int64_t j = first; j < first + 16 && j < next_keys; ++j) {
      prefetch(next + j * args.key_row_stride, args.key_dim);
    }
    const int64_t left = keys - first, count = left < 0 ? 0 : (left < 16 ? left : 16);
    turn_part(own + first * args.key_row_stride, args.key_row_stride, count, args.key_dim, panels);
    if (shared == nullptr) continue;
    turn_part(shared + first * args.shared_row_stride, args.shared_row_stride, count,
              args.shared_dim, panels + 16 * args.key_dim);
  }
}

/// The values of one block: rows [keys][width]. Asks for the next block's.
template <typename T>
void widen_values(const AttentionArgs& args, int32_t kv_head, int64_t block, int64_t width,
                  float* to) {
  const int64_t offset = kv_head * args.value_head_stride;
  const T* own = block_of<T>(args, args.value_blocks, block, offset);
  const T* next = block_of<T>(args, args.value_blocks, block + 1, offset);
  const int64_t next_keys = next == nullptr ? 0 : keys_of(args, block + 1);
  for (int64_t j = 0; j < keys_of(args, block); ++j) {
    if (j < next_keys) prefetch(next + j * args.value_row_stride, args.value_dim);
    widen_row(own + j * args.value_row_stride, args.value_dim, to + j * width);
  }
}

/// The query of token t and a head, laid out as a key.
template <typename T>
void widen_query(const AttentionArgs& args, int64_t t, int64_t head, int64_t width, float* to) {
  const T* own = static_cast<const T*>(args.q) + t * args.q_row_stride + head * args.q_head_stride;
  const T* shared = args.shared_dim == 0
                        ? nullptr
                        : static_cast<const T*>(args.q_shared) + t * args.q_shared_row_stride +
                              head * args.q_shared_head_stride;
  widen_parts(own, args.key_dim, shared, args.shared_dim, width, to);
}

}  // namespace mole::kernels::MOLE_ISA
