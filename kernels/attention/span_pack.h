// Keys, values and queries of a span in the tile order of the matrix units.
#pragma once

#include <algorithm>

#include "kernels/attention/span_softmax.h"
#include "kernels/kv_entry/kv_entry_rows.h"

namespace mole::kernels::MOLE_ISA {

inline constexpr int64_t kSpanPages = kAttentionSpan / kAttentionBlock;
inline constexpr int64_t kSpanBlocks = kAttentionSpan / 32;
inline constexpr int64_t kChunkTiles = 4;  // tiles of 16 value columns that are taken together
inline constexpr int64_t kChunkColumns = 16 * kChunkTiles;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/// Asks for memory in the second-level cache line by line, in the order in which it will be read:
/// runs of `run_bytes` from the rows of pages.
class Ahead {
 public:
  /// Forgets what was asked for before.
  void start() { num_streams_ = at_stream_ = row_ = line_ = 0; }
  /// What a piece reads of a span.
  void to_span(const SpanPiece& piece, int64_t span) {
    const AttentionArgs& a = *piece.args;
    const int64_t first = span * kAttentionSpan, page = first / kAttentionBlock;
    const int64_t rows = smaller(kAttentionSpan, a.first_position + a.num_queries - first);
    start();
    if (a.key_format != KvFormat::kModel) {
      const int64_t bytes =
          kv_entry_bytes(a.key_format, a.dtype, a.value_dim, a.key_dim - a.value_dim);
      return add(a.key_blocks + page, 0, bytes, bytes, rows);
    }
    const int64_t others = piece.head_end - piece.head_begin - 1;
    add(a.key_blocks + page, 2 * piece.head_begin * a.key_head_stride, 2 * a.key_row_stride,
        2 * (others * a.key_head_stride + a.key_dim), rows);
    if (a.shared_dim > 0) {
      add(a.shared_blocks + page, 0, 2 * a.shared_row_stride, 2 * a.shared_dim, rows);
    }
    if (a.value_blocks == a.key_blocks) return;
    add(a.value_blocks + page, 2 * piece.head_begin * a.value_head_stride, 2 * a.value_row_stride,
        2 * (others * a.value_head_stride + a.value_dim), rows);
  }
  int64_t lines() const {
    int64_t all = 0;
    for (int64_t s = 0; s < num_streams_; ++s) {
      all += streams_[s].rows * ((streams_[s].row_bytes + 63) / 64);
    }
    return all;
  }
  void set_pace(int64_t lines_a_step) { pace_ = lines_a_step; }
  /// The next lines of a steady pace.
  void step() { take(pace_); }
  void take(int64_t count) {
    while (count > 0 && at_stream_ < num_streams_) {
      const Stream& s = streams_[at_stream_];
      if (row_ == s.rows) {
        ++at_stream_;
        row_ = line_ = 0;
        continue;
      }
      const auto* page = static_cast<const char*>(s.pages[row_ / kAttentionBlock]) + s.offset;
      const char* row = page + row_ % kAttentionBlock * s.stride;
      const int64_t left = (s.row_bytes + 63) / 64 - line_, now = smaller(left, count);
      for (int64_t i = 0; i < now; ++i) _mm_prefetch(row + 64 * (line_ + i), _MM_HINT_T1);
      count -= now;
      line_ += now;
      if (now == left) line_ = 0, ++row_;
    }
  }

 private:
  /// Rows of `row_bytes` at `stride` bytes from each page, `rows` in all.
  void add(const void* const* pages, int64_t offset, int64_t stride, int64_t row_bytes,
           int64_t rows) {
    streams_[num_streams_++] = {pages, offset, stride, row_bytes, rows};
  }

  struct Stream {
    const void* const* pages;
    int64_t offset, stride, row_bytes, rows;
  };
  Stream streams_[3];
  int64_t num_streams_ = 0, at_stream_ = 0, row_ = 0, line_ = 0, pace_ = 0;
};

/// The keys and values of one span and key-value head as the products take them.
struct SpanKeys {
  int64_t valid = 0;  // keys inside the context
  const BFloat16* keys[kSpanPages] = {};
  int64_t key_stride = 0;  // elements
  /// A copy of the last tile of 16 keys, filled up with zeros, where `keys` may not be read past
  /// the context; null where it may.
  const BFloat16* tail = nullptr;
  int64_t tail_stride = 0;
  const BFloat16* values[kSpanPages] = {};
  int64_t value_stride = 0;

  const BFloat16* value(int64_t j) const {
    return values[j / kAttentionBlock] + j % kAttentionBlock * value_stride;
  }
};

/// Queries as tiles [blocks of 32 dimensions][16 pairs][16 rows][2]: rows past `rows` and
/// dimensions past either part are zeros.
inline void pack_queries(const AttentionArgs& args, int32_t kv_head, int64_t first_row,
                         int64_t rows, BFloat16* out) {
  const int64_t group = args.num_heads / args.num_kv_heads;
  alignas(64) BFloat16 lines[kTileElements];
  auto part = [&](const void* from, int64_t row_stride, int64_t head_stride, int64_t dims) {
    for (int64_t d = 0; d < dims; d += 32, out += kTileElements) {
      for (int64_t i = 0; i < kTileRows; ++i) {
        Row32 line = zero_row32();
        if (i < rows) {
          const int64_t t = (first_row + i) / group;
          const int64_t head = kv_head * group + (first_row + i) % group;
          const auto* q =
              static_cast<const BFloat16*>(from) + t * row_stride + head * head_stride + d;
          line = load_row32(q, dims - d);
        }
        store_row32(lines + 32 * i, line);
      }
      transpose16(lines, 64, reinterpret_cast<uint32_t*>(out));
    }
  };
  part(args.q, args.q_row_stride, args.q_head_stride, args.key_dim);
  part(args.q_shared, args.q_shared_row_stride, args.q_shared_head_stride, args.shared_dim);
}

inline int64_t key_width(const AttentionArgs& args) {
  return round_up32(args.key_dim) + round_up32(args.shared_dim);
}

/// Whether products can read the keys where they lie.
inline bool reads_in_place(const AttentionArgs& args, int64_t tiles) {
  if (args.key_format != KvFormat::kModel || args.shared_dim > 0 || args.key_dim % 32 != 0) {
    return false;
  }
  // Sixteen rows a multiple of 4 KiB apart fall into one set of the first-level cache: a copy pays
  // as soon as they are read twice.
  return tiles == 1 || args.key_row_stride * int64_t{sizeof(BFloat16)} % 2048 != 0;
}

/// Key j of the span, both parts filled up with zeros to blocks of 32.
inline void copy_key(const AttentionArgs& args, int32_t kv_head, int64_t first, int64_t j,
                     BFloat16* to) {
  const int64_t page = first / kAttentionBlock + j / kAttentionBlock, row = j % kAttentionBlock;
  if (args.key_format != KvFormat::kModel) {
    const KvEntryShape entry{args.key_format, args.dtype, args.value_dim,
                             args.key_dim - args.value_dim};
    const auto* entries = static_cast<const std::byte*>(args.key_blocks[page]);
    const int64_t width = round_up32(args.key_dim);
    std::fill(to + args.key_dim, to + width, BFloat16{});
    kv_decode(entry, entries + row * entry.bytes(), args.key_dim, to);
    return;
  }
  const auto* own = static_cast<const BFloat16*>(args.key_blocks[page]) +
                    row * args.key_row_stride + kv_head * args.key_head_stride;
  for (int64_t d = 0; d < args.key_dim; d += 32, to += 32) {
    store_row32(to, load_row32(own + d, args.key_dim - d));
  }
  for (int64_t d = 0; d < args.shared_dim; d += 32, to += 32) {
    const auto* shared =
        static_cast<const BFloat16*>(args.shared_blocks[page]) + row * args.shared_row_stride + d;
    store_row32(to, load_row32(shared, args.shared_dim - d));
  }
}

/// Finds, or makes in `copy` [256][key_width], the keys and values of the span that begins with
/// key `first`.
inline SpanKeys span_keys(const AttentionArgs& args, int32_t kv_head, int64_t first, bool in_place,
                          BFloat16* copy) {
  SpanKeys out;
  const int64_t width = key_width(args);
  out.valid = smaller(kAttentionSpan, args.first_position + args.num_queries - first);
  const int64_t from = in_place ? out.valid / 16 * 16 : 0;
  const int64_t rows = (out.valid + 15) / 16 * 16;
  for (int64_t j = from; j < rows; ++j) {
    BFloat16* to = copy + (j - from) * width;
    if (j < out.valid) {
      copy_key(args, kv_head, first, j, to);
    } else {
      std::fill(to, to + width, BFloat16{});
    }
  }
  const bool decoded = args.key_format != KvFormat::kModel;
  out.key_stride = in_place ? args.key_row_stride : width;
  out.value_stride = decoded ? width : args.value_row_stride;
  if (in_place && from < rows) out.tail = copy, out.tail_stride = width;
  for (int64_t page = 0; page * kAttentionBlock < out.valid; ++page) {
    const int64_t block = first / kAttentionBlock + page;
    const BFloat16* copied = copy + page * kAttentionBlock * width;
    out.keys[page] = in_place ? static_cast<const BFloat16*>(args.key_blocks[block]) +
                                    kv_head * args.key_head_stride
                              : copied;
    out.values[page] = decoded ? copied
                               : static_cast<const BFloat16*>(args.value_blocks[block]) +
                                     kv_head * args.value_head_stride;
  }
  return out;
}

/// Columns [column, column + 64) of the values of the first `blocks` blocks of 32 keys as tiles
/// [4][8][16 pairs of keys][16 columns][2]; keys from `seen` on, and columns past value_dim, are
/// zeros. Tiles of which no column is inside are left out.
inline void pack_values(const SpanKeys& span, int64_t seen, int64_t column, int64_t value_dim,
                        int64_t blocks, BFloat16* out, Ahead& ahead) {
  for (int64_t half = 0; half < 2 && column + 32 * half < value_dim; ++half) {
    const int64_t at = column + 32 * half, left = value_dim - at;
    BFloat16* first = out + 2 * half * kSpanBlocks * kTileElements;
    BFloat16* second = first + kSpanBlocks * kTileElements;
    for (int64_t block = 0; block < blocks; ++block) {
      ahead.step();
      for (int64_t j = 32 * block; j < 32 * block + 32; j += 2, first += 32, second += 32) {
        const Row32 even = j < seen ? load_row32(span.value(j) + at, left) : zero_row32();
        const Row32 odd = j + 1 < seen ? load_row32(span.value(j + 1) + at, left) : zero_row32();
        store_column_pairs(even, odd, first, second);
      }
    }
  }
}

/// One more than the last key in [begin, end) whose value holds an infinity or a NaN; 0 if none.
inline int64_t end_of_broken(const SpanKeys& span, int64_t begin, int64_t end, int64_t value_dim) {
  for (int64_t j = end; j > begin; --j) {
    const BFloat16* value = span.value(j - 1);
    for (int64_t d = 0; d < value_dim; d += 32) {
      if (has_infinity_or_nan(load_row32(value + d, value_dim - d))) return j;
    }
  }
  return 0;
}

}  // namespace mole::kernels::MOLE_ISA
