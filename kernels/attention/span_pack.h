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

/// Asks for memory in the second-level cache line by line: runs of `run_bytes` from the rows of
/// pages. A span's rows are taken in kPlaces places side by side: that keeps more of the machine's
/// own prefetchers and of the memory's banks at work than one place after the other.
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
      if (row_ == kPlaceRows || row_ >= s.rows) {
        ++at_stream_;
        row_ = line_ = 0;
        continue;
      }
      const char* places[kPlaces];
      int64_t num_places = 0;
      for (int64_t row = row_; row < s.rows; row += kPlaceRows) places[num_places++] = s.row(row);
      const int64_t lines = (s.row_bytes + 63) / 64;
      for (; line_ < lines && count > 0; ++line_, count -= num_places) {
        for (int64_t i = 0; i < num_places; ++i) {
          _mm_prefetch(places[i] + 64 * line_, _MM_HINT_T1);
        }
      }
      if (line_ == lines) line_ = 0, ++row_;
    }
  }

 private:
  /// Rows of `row_bytes` at `stride` bytes from each page, `rows` in all.
  void add(const void* const* pages, int64_t offset, int64_t stride, int64_t row_bytes,
           int64_t rows) {
    streams_[num_streams_++] = {pages, offset, stride, row_bytes, rows};
  }

  static constexpr int64_t kPlaces = 4, kPlaceRows = kAttentionSpan / kPlaces;
  struct Stream {
    const void* const* pages;
    int64_t offset, stride, row_bytes, rows;

    const char* row(int64_t j) const {
      const auto* page = static_cast<const char*>(pages[j / kAttentionBlock]) + offset;
      return page + j % kAttentionBlock * stride;
    }
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

/// Elements of a packed block: 32 keys by kChunkColumns columns.
inline constexpr int64_t kValueBlock = kChunkTiles * kTileElements;

/// Columns [column, column + 64) of the values of keys [32 block, 32 block + 32) as tiles [4][16
/// pairs of keys][16 columns][2]; keys from `seen` on, and columns past value_dim, are zeros. Pairs
/// of tiles of which no column is inside are left out.
inline void pack_block(const SpanKeys& span, int64_t seen, int64_t column, int64_t value_dim,
                       int64_t block, BFloat16* out) {
  const int64_t begin = 32 * block, left = value_dim - column;
  if (seen - begin >= 32 && left >= kChunkColumns) {
    const BFloat16* row = span.value(begin) + column;
    const int64_t stride = span.value_stride;
#pragma GCC unroll 2
    for (int64_t pair = 0; pair < 16; ++pair, row += 2 * stride, out += 32) {
      store_column_pairs(load_row32(row), load_row32(row + stride), out, out + kTileElements);
      store_column_pairs(load_row32(row + 32), load_row32(row + stride + 32),
                         out + 2 * kTileElements, out + 3 * kTileElements);
    }
    return;
  }
  for (int64_t at = 0; at < kChunkColumns && at < left; at += 32, out += 2 * kTileElements) {
    BFloat16* to = out;
    for (int64_t j = begin; j < begin + 32; j += 2, to += 32) {
      auto row = [&](int64_t key) {
        return key < seen ? load_row32(span.value(key) + column + at, left - at) : zero_row32();
      };
      store_column_pairs(row(j), row(j + 1), to, to + kTileElements);
    }
  }
}

/// Values of one chunk of columns as the products take them, block by block.
class ChunkValues {
 public:
  /// Packs as they are asked for, into `memory` of `slots` blocks.
  ChunkValues(const SpanKeys& span, int64_t seen, int64_t column, int64_t value_dim,
              BFloat16* memory, int64_t slots)
      : span_(&span),
        seen_(seen),
        column_(column),
        value_dim_(value_dim),
        memory_(memory),
        slots_(slots) {}
  /// What another one has packed, every block of it.
  explicit ChunkValues(BFloat16* memory) : memory_(memory), slots_(kSpanBlocks) {}

  const BFloat16* block(int64_t index) const {
    BFloat16* out = memory_ + index % slots_ * kValueBlock;
    if (span_ != nullptr) pack_block(*span_, seen_, column_, value_dim_, index, out);
    return out;
  }

 private:
  const SpanKeys* span_ = nullptr;
  int64_t seen_ = 0, column_ = 0, value_dim_ = 0;
  BFloat16* memory_;
  int64_t slots_;
};

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
