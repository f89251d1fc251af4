// Attention in float32.
#include <cmath>

#include "kernels/attention/attention_rows.h"
#include "kernels/attention/tile_pack.h"
#include "kernels/cpu/scratch.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr float kLowest = -__builtin_inff();
/// Rows that pass over the keys together: their queries and sums stay in half of a 2 MiB
/// second-level cache, beside one block of keys and values.
constexpr int64_t kPassFloats = (1 << 20) / 4;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/// One thread's working memory for a pass of rows over the keys.
struct Pass {
  int64_t width, value_width;      // key + shared, and value, rounded up to 16
  int64_t first_row, rows, group;  // rows [first_row, first_row + rows) of the head's group
  float* panels;                   // [4][width][16]
  float* values;                   // [64][value_width]
  float* queries;                  // [rows][width]
  float* out;                      // [rows][value_width], not yet divided by the sum
  float* largest;                  // [rows] running maximum of the scores
  float* sum;                      // [rows] running sum of exp(score - maximum)
};

/// The last position that row r may see is the query's own.
int64_t position(const AttentionArgs& args, const Pass& pass, int64_t r) {
  return args.first_position + (pass.first_row + r) / pass.group;
}

/// Maximum, exponentials and their sum (16 interleaved chains, added pairwise) of one row's `keys`
/// scores. -infinity is a probability of zero; where every score is, the shift by zero avoids NaN.
float exponentials(float* scores, int32_t keys, int32_t groups, float* largest) {
  for (int32_t j = keys; j < 16 * groups; ++j) scores[j] = kLowest;
  F32x16 most = load16(scores);
  for (int32_t g = 1; g < groups; ++g) most = max16(most, load16(scores + 16 * g));
  *largest = fold_max16(most);
  const F32x16 shift = set16(*largest == kLowest ? 0.0f : *largest);
  F32x16 sum = zero16();
  for (int32_t g = 0; g < groups; ++g) {
    const F32x16 p = exp16_keep_nan(sub16(load16(scores + 16 * g), shift));
    store16(scores + 16 * g, p);
    sum = add16(sum, p);
  }
  return fold_sum16(sum);
}

/// Sums of one block for the rows of a tile.
struct BlockSums {
  float largest[kRowsAtOnce], sum[kRowsAtOnce];
  float* out;  // [rows][value_width]
};

/// Adds a block's sums to the running ones of rows [r, r + rows): both are scaled to the maximum.
void merge(Pass& pass, int64_t r, int32_t rows, const BlockSums& block) {
  alignas(64) float factor[16] = {};  // keep and take of each row: exponentials of at most zero
  for (int32_t i = 0; i < rows; ++i) {
    const float before = pass.largest[r + i];
    const float now = block.largest[i] > before ? block.largest[i] : before;
    const float shift = now == kLowest ? 0.0f : now;
    factor[i] = before - shift;
    factor[8 + i] = block.largest[i] - shift;
    pass.largest[r + i] = now;
  }
  store16(factor, exp16_keep_nan(load16(factor)));
  for (int32_t i = 0; i < rows; ++i) {
    const F32x16 keep = set16(factor[i]), take = set16(factor[8 + i]);
    pass.sum[r + i] = __builtin_fmaf(block.sum[i], factor[8 + i], pass.sum[r + i] * factor[i]);
    float* total = pass.out + (r + i) * pass.value_width;
    const float* part = block.out + i * pass.value_width;
    for (int64_t v = 0; v < pass.value_width; v += 16) {
      store16(total + v, fma16(load16(part + v), take, mul16(load16(total + v), keep)));
    }
  }
}

/// Rows [r, r + rows), at most a tile, against one block of keys.
void attend_tile(const AttentionArgs& args, Pass& pass, int64_t r, int32_t rows, int64_t block,
                 float* scores, float* out) {
  int32_t keys[kRowsAtOnce];
  for (int32_t i = 0; i < rows; ++i) {
    keys[i] = static_cast<int32_t>(
        smaller(kAttentionBlock, position(args, pass, r + i) + 1 - block * kAttentionBlock));
  }
  const int32_t groups = (keys[rows - 1] + 15) / 16;
  score_tile(rows, pass.queries + r * pass.width, pass.width, pass.panels, pass.width,
             args.key_dim + args.shared_dim, args.scale, scores, groups);
  BlockSums sums;
  sums.out = out;
  for (int32_t i = 0; i < rows; ++i) {
    sums.sum[i] = exponentials(scores + i * kAttentionBlock, keys[i], groups, &sums.largest[i]);
  }
  const int64_t width = pass.value_width;
  for (int64_t v = 0; v < rows * width; v += 16) store16(out + v, zero16());
  // All rows see the first row's keys; what later rows see beyond them follows one by one, so that
  // a value is never multiplied by the zero of a row that must not see it.
  accumulate(rows, {scores, kAttentionBlock, 1}, pass.values, width, keys[0], out, width, width);
  for (int32_t i = 1; i < rows; ++i) {
    const int32_t extra = keys[i] - keys[0];
    if (extra == 0) continue;
    accumulate(1, {scores + i * kAttentionBlock + keys[0], 0, 1}, pass.values + keys[0] * width,
               width, extra, out + i * width, width, width);
  }
  merge(pass, r, rows, sums);
}

void load_block(const AttentionArgs& args, Pass& pass, int32_t kv_head, int64_t block) {
  turn_keys<float>(args, kv_head, block, pass.width, pass.panels);
  widen_values<float>(args, kv_head, block, pass.value_width, pass.values);
}

void write_rows(const AttentionArgs& args, const Pass& pass, int32_t kv_head) {
  for (int64_t r = 0; r < pass.rows; ++r) {
    const int64_t t = (pass.first_row + r) / pass.group;
    const int64_t head = kv_head * pass.group + (pass.first_row + r) % pass.group;
    float* out =
        static_cast<float*>(args.out) + t * args.out_row_stride + head * args.out_head_stride;
    const float* total = pass.out + r * pass.value_width;
    for (int64_t v = 0; v < args.value_dim; v += 16) {
      store_partial16(out + v, div16(load16(total + v), set16(pass.sum[r])), args.value_dim - v);
    }
    if (args.logsumexp == nullptr) continue;
    args.logsumexp[t * args.num_heads + head] = static_cast<float>(
        static_cast<double>(pass.largest[r]) + std::log(static_cast<double>(pass.sum[r])));
  }
}

void run_pass(const AttentionArgs& args, int32_t kv_head, Pass& pass, float* scores, float* out) {
  for (int64_t r = 0; r < pass.rows; ++r) {
    const int64_t t = (pass.first_row + r) / pass.group;
    const int64_t head = kv_head * pass.group + (pass.first_row + r) % pass.group;
    widen_query<float>(args, t, head, pass.width, pass.queries + r * pass.width);
    pass.largest[r] = kLowest;
    pass.sum[r] = 0.0f;
  }
  for (int64_t v = 0; v < pass.rows * pass.value_width; v += 16) store16(pass.out + v, zero16());
  const int64_t blocks = position(args, pass, pass.rows - 1) / kAttentionBlock + 1;
  for (int64_t block = 0; block < blocks; ++block) {
    load_block(args, pass, kv_head, block);
    // The first row whose query is not before this block.
    const int64_t skipped = (block * kAttentionBlock - args.first_position) * pass.group;
    int64_t r = skipped > pass.first_row ? skipped - pass.first_row : 0;
    for (; r < pass.rows; r += kRowsAtOnce) {
      attend_tile(args, pass, r, static_cast<int32_t>(smaller(kRowsAtOnce, pass.rows - r)), block,
                  scores, out);
    }
  }
  write_rows(args, pass, kv_head);
}

}  // namespace

void attention_rows(const AttentionArgs& args, int32_t kv_head, int64_t begin, int64_t end) {
  Pass pass;
  pass.width = round_up16(args.key_dim + args.shared_dim);
  pass.value_width = round_up16(args.value_dim);
  pass.group = args.num_heads / args.num_kv_heads;
  const int64_t row_floats = pass.width + pass.value_width + 2;
  int64_t most = kPassFloats / row_floats / kRowsAtOnce * kRowsAtOnce;
  if (most < kRowsAtOnce) most = kRowsAtOnce;
  if (most > end - begin) most = end - begin;
  const int64_t block_floats = kAttentionBlock * (pass.width + pass.value_width);
  const int64_t tile_floats = kRowsAtOnce * (kAttentionBlock + pass.value_width);
  const int64_t floats = block_floats + tile_floats + most * row_floats;
  auto* memory = reinterpret_cast<float*>(thread_scratch(floats * 4));
  auto take = [&memory](int64_t count) { return (memory += count) - count; };
  pass.panels = take(kAttentionBlock * pass.width);
  pass.values = take(kAttentionBlock * pass.value_width);
  float* scores = take(kRowsAtOnce * kAttentionBlock);
  float* out = take(kRowsAtOnce * pass.value_width);
  pass.queries = take(most * pass.width);
  pass.out = take(most * pass.value_width);
  pass.largest = take(most);
  pass.sum = take(most);
  for (int64_t r = begin; r < end; r += most) {
    pass.first_row = r;
    pass.rows = smaller(most, end - r);
    run_pass(args, kv_head, pass, scores, out);
  }
}

}  // namespace mole::kernels::MOLE_ISA
