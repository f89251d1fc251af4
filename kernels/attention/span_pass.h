// Attention in bfloat16 over the spans of one piece, written once for all instruction sets. Engine
// multiplies tiles as TDPBF16PS does:
//   Scope                                       what must live while it multiplies
//   Rounding                                    how probabilities are rounded: as PlainRounding
//   scores<K>(keys, q, blocks, out, ahead)      K tiles of 16 keys by one of rows, [K][16][16]
//   scores_of_two(keys, q, blocks, out, ahead)  two by two; the second tile of rows follows the
//                                               first in q, its scores 256 keys later in out
//   values<N>(p, values, blocks, out, ahead)    one tile of rows by N of columns, [N][16][16]
//
// Scores are made with keys along the tiles' rows and queries along their columns: keys are read
// as they lie in the pages, and maximum, exponential and sum work on sixteen queries at once.
#pragma once

#include "kernels/attention/span_memory.h"
#include "kernels/attention/span_scores.h"
#include "kernels/attention/span_values.h"

namespace mole::kernels::MOLE_ISA {
namespace {

/// Working memory of a pass: queries, states and probabilities of its tiles stay in half of a
/// 2 MiB second-level cache, beside one span of keys and values.
constexpr int64_t kPassBytes = int64_t{1} << 20;
/// Blocks of packed values that are kept where only one tile of rows wants them.
constexpr int64_t kFewSlots = 2;

template <typename Engine>
class SpanPass {
 public:
  explicit SpanPass(const SpanPiece& piece)
      : piece_(piece),
        args_(*piece.args),
        group_(args_.num_heads / args_.num_kv_heads),
        heads_(piece.head_end - piece.head_begin),
        query_elements_(key_width(args_) * kTileRows),
        state_(state_floats(args_.value_dim)) {
    const int64_t tile_bytes = 2 * query_elements_ + 4 * state_ + 2 * kSpanBlocks * kTileElements;
    const int64_t all = tiles_of(piece.row_end - piece.row_begin);
    most_tiles_ =
        piece.states != nullptr ? all : smaller(all, larger(1, kPassBytes / (heads_ * tile_bytes)));
    memory_.take(heads_, most_tiles_, query_elements_, state_, key_width(args_));
  }

  /// `next` is what this thread does afterwards, or null; `warm` says that another piece has
  /// already asked for this one's first keys.
  void run(const SpanPiece* next, bool warm) {
    const typename Engine::Scope scope;
    const int64_t step = most_tiles_ * kTileRows;
    for (int64_t row = piece_.row_begin; row < piece_.row_end; row += step) {
      first_row_ = row;
      rows_ = smaller(step, piece_.row_end - row);
      tiles_ = tiles_of(rows_);
      in_place_ = reads_in_place(args_, tiles_);
      if (!warm) {
        ahead_.to_span(piece_, piece_.span_begin);
        ahead_.take(ahead_.lines());
      }
      warm = false;
      run_rows(row + step < piece_.row_end ? &piece_ : next);
    }
  }

 private:
  int32_t kv_head(int64_t h) const { return piece_.head_begin + static_cast<int32_t>(h); }
  BFloat16* queries(int64_t h, int64_t i) {
    return memory_.queries + (h * tiles_ + i) * query_elements_;
  }
  BFloat16* probabilities_of(int64_t i) {
    return memory_.probabilities + i * kSpanBlocks * kTileElements;
  }
  /// Whether every span gets a state of its own.
  bool apart() const { return piece_.states != nullptr && piece_.span_begin > 0; }
  float* state(int64_t h, int64_t i, int64_t span) {
    float* base = piece_.states == nullptr ? memory_.states : piece_.states;
    const int64_t slot = apart() ? span - piece_.span_begin : 0;
    return base + ((slot * heads_ + h) * tiles_ + i) * state_;
  }
  int64_t key_blocks() const { return query_elements_ / kTileElements; }
  int64_t rows_of_tile(int64_t i) const { return smaller(kTileRows, rows_ - i * kTileRows); }

  void run_rows(const SpanPiece* next) {
    for (int64_t h = 0; h < heads_; ++h) {
      for (int64_t i = 0; i < tiles_; ++i) {
        pack_queries(args_, kv_head(h), first_row_ + i * kTileRows, rows_of_tile(i), queries(h, i));
      }
    }
    const int64_t last = args_.first_position + (first_row_ + rows_ - 1) / group_;
    const int64_t end = smaller(piece_.span_end, last / kAttentionSpan + 1);
    for (int64_t span = piece_.span_begin; span < end; ++span) {
      ahead_.start();
      if (span + 1 < end) {
        ahead_.to_span(piece_, span + 1);
      } else if (next != nullptr) {
        ahead_.to_span(*next, next->span_begin);
      }
      const int64_t steps = steps_of_span();
      ahead_.set_pace((ahead_.lines() + steps - 1) / steps);
      for (int64_t h = 0; h < heads_; ++h) run_span(h, span);
    }
    if (piece_.states == nullptr) write_rows();
  }

  /// How often the products of a span look ahead.
  int64_t steps_of_span() const {
    const int64_t chunks = (args_.value_dim + kChunkColumns - 1) / kChunkColumns;
    return heads_ * tiles_ * (kSpanPages * key_blocks() + kSpanBlocks * chunks);
  }

  void run_span(int64_t h, int64_t span) {
    const int64_t first = span * kAttentionSpan;
    const SpanKeys keys = span_keys(args_, kv_head(h), first, in_place_, memory_.keys);
    int64_t least = keys.valid;
    for (int64_t i = 0; i < tiles_; ++i) {
      set_limits(i, first);
      if (memory_.tiles[i].most == 0) continue;
      least = smaller(least, memory_.tiles[i].least);
    }
    weigh_tiles(h, span, keys);
    // A row's weight of a key that it may not see is zero, and zero times a NaN is a NaN.
    const int64_t broken = end_of_broken(keys, least, keys.valid, args_.value_dim);
    for (int64_t column = 0; column < args_.value_dim; column += kChunkColumns) {
      // Packed for the last tile, which sees most, and kept for the others.
      bool packed = false;
      for (int64_t i = tiles_ - 1; i >= 0; --i) {
        if (memory_.tiles[i].most == 0) continue;
        const ChunkValues values =
            packed ? ChunkValues(memory_.values)
                   : ChunkValues(keys, keys.valid, column, args_.value_dim, memory_.values,
                                 tiles_ == 1 ? kFewSlots : kSpanBlocks);
        float* out = state(h, i, span) + 48 + column * kTileRows;
        if (memory_.tiles[i].least < broken) {
          add_apart(i, keys, column, fresh(span), out);
        } else {
          add_product(i, values, column, fresh(span), out);
          packed = true;
        }
      }
    }
  }

  /// Whether a state begins with this span: every row sees the first one.
  bool fresh(int64_t span) const { return apart() || span == 0; }

  /// A state that adds nothing.
  void write_empty(float* to) const {
    store_sums(to, {set16(kLowest), zero16(), zero16()});
    for (int64_t f = 48; f < state_; f += 16) store16(to + f, zero16());
  }

  void set_limits(int64_t i, int64_t first) {
    SpanTile& tile = memory_.tiles[i];
    const int64_t rows = rows_of_tile(i);
    for (int64_t r = 0; r < kTileRows; ++r) {
      const int64_t row = first_row_ + i * kTileRows + smaller(r, rows - 1);
      const int64_t seen = args_.first_position + row / group_ + 1 - first;
      tile.limit[r] = static_cast<float>(smaller(larger(seen, 0), kAttentionSpan));
    }
    tile.least = static_cast<int64_t>(tile.limit[0]);  // positions never fall with rows
    tile.most = static_cast<int64_t>(tile.limit[15]);
  }

  /// Scores, probabilities and sums of all tiles. Two tiles that see the whole span share the
  /// reading of its keys.
  void weigh_tiles(int64_t h, int64_t span, const SpanKeys& keys) {
    for (int64_t i = 0; i < tiles_; ++i) {
      if (memory_.tiles[i].most == 0) {
        if (apart()) write_empty(state(h, i, span));
        continue;
      }
      float* scores = memory_.scores;
      if (i + 1 < tiles_ && memory_.tiles[i].least == kAttentionSpan) {
        multiply_keys_of_two<Engine>(queries(h, i), key_blocks(), keys, memory_.scores, ahead_);
        weigh_tile(h, i++, span, scores);
        scores += kAttentionSpan * kTileRows;
      } else {
        multiply_keys<Engine>(queries(h, i), key_blocks(), keys, memory_.tiles[i].most,
                              memory_.scores, ahead_);
      }
      weigh_tile(h, i, span, scores);
    }
  }

  /// Probabilities of a tile, and its sums, from its products with the span's keys.
  void weigh_tile(int64_t h, int64_t i, int64_t span, float* scores) {
    SpanTile& tile = memory_.tiles[i];
    const int64_t computed = (tile.most + 15) / 16 * 16, padded = (tile.most + 31) / 32 * 32;
    const F32x16 largest =
        scale_and_mask(scores, padded, computed, tile.least, args_.scale, load16(tile.limit));
    using Rounding = typename Engine::Rounding;
    const TileSums sums =
        args_.logsumexp == nullptr
            ? probabilities<Rounding, false>(scores, padded, largest, probabilities_of(i))
            : probabilities<Rounding, true>(scores, padded, largest, probabilities_of(i));
    float* to = state(h, i, span);
    if (fresh(span)) return store_sums(to, sums);
    TileSums all = load_sums(to);
    merge_sums(all, sums, tile.factors);
    store_sums(to, all);
  }

  /// Tiles of the columns from `column` on: 4, or 2 where the values end before.
  int64_t chunk_tiles(int64_t column) const {
    return args_.value_dim - column > kChunkColumns / 2 ? kChunkTiles : kChunkTiles / 2;
  }
  void multiply_values(int64_t i, const ChunkValues& values, int64_t column, float* out) {
    const int64_t blocks = (memory_.tiles[i].most + 31) / 32;
    if (chunk_tiles(column) == kChunkTiles) {
      Engine::template values<4>(probabilities_of(i), values, blocks, out, ahead_);
    } else {
      Engine::template values<2>(probabilities_of(i), values, blocks, out, ahead_);
    }
  }

  void add_product(int64_t i, const ChunkValues& values, int64_t column, bool fresh, float* out) {
    multiply_values(i, values, column, fresh ? out : memory_.product);
    if (fresh) return;
    merge_output(out, memory_.product, chunk_tiles(column), memory_.tiles[i].factors, 0, kTileRows);
  }

  /// The same where a value that not all rows of the tile may see is no number: the rows of each
  /// limit by themselves, against values that end there.
  void add_apart(int64_t i, const SpanKeys& keys, int64_t column, bool fresh, float* out) {
    SpanTile& tile = memory_.tiles[i];
    const int64_t tiles = chunk_tiles(column);
    if (fresh) {
      for (int64_t f = 0; f < 256 * tiles; f += 16) store16(out + f, zero16());
      store16(tile.factors.keep, zero16());
      store16(tile.factors.take, set16(1.0f));
    }
    for (int64_t row = 0, end = 0; row < kTileRows; row = end) {
      while (end < kTileRows && tile.limit[end] == tile.limit[row]) ++end;
      const ChunkValues values(keys, static_cast<int64_t>(tile.limit[row]), column, args_.value_dim,
                               memory_.own_values, kFewSlots);
      multiply_values(i, values, column, memory_.product);
      merge_output(out, memory_.product, tiles, tile.factors, row, end);
    }
  }

  void write_rows() {
    for (int64_t h = 0; h < heads_; ++h) {
      for (int64_t i = 0; i < tiles_; ++i) {
        const float* from = state(h, i, 0);
        write_tile(args_, kv_head(h), first_row_ + i * kTileRows, rows_of_tile(i), load_sums(from),
                   from + 48, 0, round_up32(args_.value_dim));
      }
    }
  }

  const SpanPiece& piece_;
  const AttentionArgs& args_;
  const int64_t group_, heads_, query_elements_, state_;
  int64_t most_tiles_ = 0;
  // The pass at hand.
  int64_t first_row_ = 0, rows_ = 0, tiles_ = 0;
  bool in_place_ = false;
  Ahead ahead_;
  SpanMemory memory_;
};

template <typename Engine>
void run_pieces(const SpanPiece* pieces, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    SpanPass<Engine>(pieces[i]).run(i + 1 < count ? &pieces[i + 1] : nullptr, i > 0);
  }
}

}  // namespace
}  // namespace mole::kernels::MOLE_ISA
