// What a pass over spans will read, asked for ahead of it.
#pragma once

#include "kernels/attention/attention_spans.h"
#include "kernels/cpu/simd.h"

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

}  // namespace mole::kernels::MOLE_ISA
