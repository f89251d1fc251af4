#include "kernels/attention/attention_rows.h"
#include "kernels/attention/tile_pack.h"
#include "kernels/cpu/scratch.h"

namespace mole::kernels::MOLE_ISA {
namespace {

/// Rows that are taken together against a block of keys: their probabilities fill a quarter of the
/// first-level cache.
constexpr int64_t kRowBlock = 64;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/// One key-value head's working memory; rows as attention_rows.h numbers them.
struct Head {
  const AttentionBackwardArgs& args;
  const int32_t kv_head;
  const int64_t group = args.forward.num_heads / args.forward.num_kv_heads;
  const int64_t rows = args.forward.num_queries * group;
  const int64_t width = round_up16(args.forward.key_dim + args.forward.shared_dim);
  const int64_t value_width = round_up16(args.forward.value_dim);
  // Of the block of keys at hand.
  float *keys = nullptr, *key_panels = nullptr;  // [64][width], and turned
  float* value_panels = nullptr;                 // [64][value_width] turned
  float *dk = nullptr, *dv = nullptr;            // [64][width], [64][value_width]
  float *p = nullptr, *ds = nullptr;             // [kRowBlock][64]
  // Of all rows.
  float *queries = nullptr, *dq = nullptr;       // [rows][width]
  float* dout = nullptr;                         // [rows][value_width]
  float *logsumexp = nullptr, *delta = nullptr;  // [rows]

  int64_t token(int64_t r) const { return r / group; }
  int64_t head(int64_t r) const { return kv_head * group + r % group; }
};

void clear(float* p, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) store16(p + i, zero16());
}

template <typename T>
void load_rows(Head& h) {
  const AttentionArgs& args = h.args.forward;
  for (int64_t r = 0; r < h.rows; ++r) {
    const int64_t t = h.token(r), head = h.head(r);
    widen_query<T>(args, t, head, h.width, h.queries + r * h.width);
    const int64_t at = t * args.out_row_stride + head * args.out_head_stride;
    const T* out = static_cast<const T*>(args.out) + at;
    float* dout = h.dout + r * h.value_width;
    widen_row(static_cast<const T*>(h.args.dout) + at, args.value_dim, dout);
    F32x16 products = zero16();
    for (int64_t v = 0; v < args.value_dim; v += 16) {
      products = fma16(load16(dout + v), load_partial16(out + v, args.value_dim - v), products);
    }
    h.delta[r] = fold_sum16(products);
    h.logsumexp[r] = args.logsumexp[t * args.num_heads + head];
  }
  clear(h.dq, h.rows * h.width);
}

template <typename T>
void load_block(Head& h, int64_t block, int64_t keys) {
  const AttentionArgs& args = h.args.forward;
  widen_keys<T>(args, h.kv_head, block, h.width, h.keys);
  turn_keys<T>(args, h.kv_head, block, h.width, h.key_panels);
  const T* values = block_of<T>(args, args.value_blocks, block, h.kv_head * args.value_head_stride);
  for (int64_t first = 0; first < kAttentionBlock; first += 16) {
    const int64_t count = smaller(16, larger(0, keys - first));
    turn_part(values + first * args.value_row_stride, args.value_row_stride, count, args.value_dim,
              h.value_panels + first * h.value_width);
  }
  clear(h.dk, kAttentionBlock * h.width);
  clear(h.dv, kAttentionBlock * h.value_width);
}

/// p and ds of rows [r, r + count) of a row block whose first row is at p, ds: a tile's scores and
/// output products lie there already. keys[i] keys count for row i, the rest become zero.
void differentiate(const Head& h, int64_t r, int32_t count, const int32_t* keys, float* p,
                   float* ds) {
  const F32x16 scale = set16(h.args.forward.scale);
  for (int32_t i = 0; i < count; ++i, p += kAttentionBlock, ds += kAttentionBlock) {
    const F32x16 logsumexp = set16(h.logsumexp[r + i]), delta = set16(h.delta[r + i]);
    for (int32_t j = 0; j < keys[i]; j += 16) {
      const F32x16 weight = exp16_keep_nan(sub16(load16(p + j), logsumexp));
      store16(p + j, weight);
      store16(ds + j, mul16(mul16(weight, sub16(load16(ds + j), delta)), scale));
    }
    for (int32_t j = keys[i]; j < kAttentionBlock; ++j) p[j] = ds[j] = 0.0f;
  }
}

/// Rows [first, first + count), at most kRowBlock, against the block of keys at hand.
void run_rows(Head& h, int64_t first, int64_t count, int64_t block) {
  const AttentionArgs& args = h.args.forward;
  const int64_t start = block * kAttentionBlock;
  for (int64_t i = 0; i < count; i += kRowsAtOnce) {
    const int64_t r = first + i;
    const auto rows = static_cast<int32_t>(smaller(kRowsAtOnce, count - i));
    int32_t keys[kRowsAtOnce];
    for (int32_t k = 0; k < rows; ++k) {
      keys[k] = static_cast<int32_t>(smaller(kAttentionBlock, h.token(r + k) + 1 - start));
    }
    const int32_t most = keys[rows - 1], groups = (most + 15) / 16;
    float *p = h.p + i * kAttentionBlock, *ds = h.ds + i * kAttentionBlock;
    const float* queries = h.queries + r * h.width;
    if (args.dtype == DType::kBFloat16) {
      score_tile_bf16(args, rows, queries, h.width, h.key_panels, h.width, p, groups);
    } else {
      score_tile(rows, queries, h.width, h.key_panels, h.width, args.key_dim + args.shared_dim,
                 args.scale, p, groups);
    }
    score_tile(rows, h.dout + r * h.value_width, h.value_width, h.value_panels, h.value_width,
               args.value_dim, 1.0f, ds, groups);
    differentiate(h, r, rows, keys, p, ds);
    accumulate(rows, {ds, kAttentionBlock, 1}, h.keys, h.width, most, h.dq + r * h.width, h.width,
               h.width);
  }
  for (int64_t j = 0; j < kAttentionBlock; j += kRowsAtOnce) {
    // Rows before these keys add zeros only.
    const int64_t skip = larger(0, (start + j) * h.group - first);
    if (skip >= count) break;
    const int64_t at = skip * kAttentionBlock + j, r = first + skip;
    accumulate(kRowsAtOnce, {h.p + at, 1, kAttentionBlock}, h.dout + r * h.value_width,
               h.value_width, count - skip, h.dv + j * h.value_width, h.value_width, h.value_width);
    accumulate(kRowsAtOnce, {h.ds + at, 1, kAttentionBlock}, h.queries + r * h.width, h.width,
               count - skip, h.dk + j * h.width, h.width, h.width);
  }
}

void copy(const float* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += 16) {
    store_partial16(to + i, load_partial16(from + i, count - i), count - i);
  }
}

void write_block(const Head& h, int64_t block, int64_t keys, float* dk_shared) {
  const AttentionArgs& args = h.args.forward;
  for (int64_t j = 0; j < keys; ++j) {
    const int64_t token = block * kAttentionBlock + j;
    const int64_t row = token * args.num_kv_heads + h.kv_head;
    copy(h.dk + j * h.width, args.key_dim, h.args.dk + row * args.key_dim);
    copy(h.dv + j * h.value_width, args.value_dim, h.args.dv + row * args.value_dim);
    copy(h.dk + j * h.width + args.key_dim, args.shared_dim, dk_shared + token * args.shared_dim);
  }
}

void write_rows(const Head& h) {
  const AttentionArgs& args = h.args.forward;
  for (int64_t r = 0; r < h.rows; ++r) {
    const int64_t row = h.token(r) * args.num_heads + h.head(r);
    const float* dq = h.dq + r * h.width;
    copy(dq, args.key_dim, h.args.dq + row * args.key_dim);
    copy(dq + args.key_dim, args.shared_dim, h.args.dq_shared + row * args.shared_dim);
  }
}

void take_memory(Head& h) {
  const int64_t block = kAttentionBlock * (3 * h.width + 2 * h.value_width);
  const int64_t square = 2 * kRowBlock * kAttentionBlock;
  const int64_t per_row = 2 * h.width + h.value_width + 2;
  auto* memory = reinterpret_cast<float*>(thread_scratch(4 * (block + square + h.rows * per_row)));
  auto take = [&memory](int64_t count) { return (memory += count) - count; };
  for (float** p : {&h.keys, &h.key_panels, &h.dk}) *p = take(kAttentionBlock * h.width);
  for (float** p : {&h.value_panels, &h.dv}) {
    *p = take(kAttentionBlock * h.value_width);
  }
  h.p = take(kRowBlock * kAttentionBlock);
  h.ds = take(kRowBlock * kAttentionBlock);
  h.queries = take(h.rows * h.width);
  h.dq = take(h.rows * h.width);
  h.dout = take(h.rows * h.value_width);
  h.logsumexp = take(h.rows);
  h.delta = take(h.rows);
}

template <typename T>
void run_head(const AttentionBackwardArgs& args, int32_t kv_head, float* dk_shared) {
  const AttentionArgs& forward = args.forward;
  Head h{args, kv_head};
  take_memory(h);
  load_rows<T>(h);
  for (int64_t block = 0; block * kAttentionBlock < forward.num_queries; ++block) {
    const int64_t start = block * kAttentionBlock;
    const int64_t keys = smaller(kAttentionBlock, forward.num_queries - start);
    load_block<T>(h, block, keys);
    for (int64_t r = start * h.group; r < h.rows; r += kRowBlock) {
      run_rows(h, r, smaller(kRowBlock, h.rows - r), block);
    }
    write_block(h, block, keys, dk_shared);
  }
  write_rows(h);
}

}  // namespace

void attention_backward_head(const AttentionBackwardArgs& args, int32_t kv_head, float* dk_shared) {
  if (args.forward.dtype == DType::kFloat32) return run_head<float>(args, kv_head, dk_shared);
  run_head<BFloat16>(args, kv_head, dk_shared);
}

}  // namespace mole::kernels::MOLE_ISA
