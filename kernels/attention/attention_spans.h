// Attention in bfloat16, span by span: what attention.cc cuts into pieces and the files compiled
// per instruction set compute. Rows are numbered as in attention_rows.h; sixteen of them are a
// tile.
#pragma once

#include "kernels/attention/attention.h"

namespace mole::kernels {

inline constexpr int64_t kTileRows = 16;

constexpr int64_t round_up32(int64_t n) { return (n + 31) / 32 * 32; }
constexpr int64_t tiles_of(int64_t rows) { return (rows + kTileRows - 1) / kTileRows; }

/// What is known of a tile's rows after some spans: maximum, sum of rounded and of unrounded
/// probabilities [16] each, then the output not yet divided, [value_width / 16][16 rows][16].
constexpr int64_t state_floats(int64_t value_dim) {
  return 3 * kTileRows + kTileRows * round_up32(value_dim);
}

/// Rows of some key-value heads of one sequence against some spans.
struct SpanPiece {
  const AttentionArgs* args = nullptr;
  int32_t head_begin = 0, head_end = 0;  // key-value heads
  int64_t row_begin = 0, row_end = 0;    // of each head
  int64_t span_begin = 0, span_end = 0;
  /// Null: the piece has every span that its rows see, and writes their results. Otherwise states
  /// go here, [heads][tiles][state_floats]: one of all spans if the piece begins with the first
  /// span, else one a span, to be merged in order.
  float* states = nullptr;
};

/// States of one tile in the order of spans, `slots` of them, `slot_floats` apart, and the columns
/// (multiples of 32) of value_dim whose merged result is to be written.
struct SpanMerge {
  const AttentionArgs* args = nullptr;
  int32_t kv_head = 0;
  int64_t tile = 0;
  const float* states = nullptr;
  int64_t slots = 0, slot_floats = 0;
  int64_t column_begin = 0, column_end = 0;
};

namespace avx2 {
void attention_spans(const SpanPiece* pieces, int64_t count);
void attention_merge(const SpanMerge& merge);
}  // namespace avx2
namespace avx512 {
/// In the calling thread, which must flush denormals (a ThreadTeam's does).
void attention_spans(const SpanPiece* pieces, int64_t count);
void attention_merge(const SpanMerge& merge);
}  // namespace avx512
namespace amx {
void attention_spans(const SpanPiece* pieces, int64_t count);
}  // namespace amx

}  // namespace mole::kernels
