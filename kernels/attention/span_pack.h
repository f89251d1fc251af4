// Keys and queries of a span in the tile order of the matrix units.
#pragma once

#include <algorithm>

#include "kernels/attention/span_ahead.h"
#include "kernels/attention/span_softmax.h"
#include "kernels/kv_entry/kv_entry_rows.h"

namespace mole::kernels::MOLE_ISA {

/// How keys lie, in elements: from row to row of a tile of 16, from block to block of 32
/// dimensions, from tile to tile.
struct KeyLayout {
  int64_t row = 0, block = 0, tile = 0;
};
inline KeyLayout rows_layout(int64_t stride) { return {stride, 32, 16 * stride}; }
/// Tiles [blocks of 32 dimensions][16 keys][32], one after the other.
inline KeyLayout tiles_layout(int64_t width) { return {32, kTileElements, 16 * width}; }

struct KeyTiles {
  const BFloat16* data;
  KeyLayout layout;
};

/// The keys and values of one span and key-value head as the products take them.
struct SpanKeys {
  int64_t valid = 0;  // keys inside the context
  const BFloat16* keys[kSpanPages] = {};
  KeyLayout layout;
  /// A copy of the last tile of 16 keys, filled up with zeros, where `keys` may not be read past
  /// the context; null where it may.
  const BFloat16* tail = nullptr;
  KeyLayout tail_layout;
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

/// The first `rows` entries of the span as keys, filled up with zeros to blocks of 32.
inline void decode_keys(const AttentionArgs& args, int64_t first, int64_t rows, BFloat16* to) {
  const KvEntryShape entry{args.key_format, args.dtype, args.value_dim,
                           args.key_dim - args.value_dim};
  const int64_t width = round_up32(args.key_dim);
  for (int64_t j = 0; j < rows; j += kAttentionBlock) {
    const auto* page =
        static_cast<const std::byte*>(args.key_blocks[(first + j) / kAttentionBlock]);
    kv_decode_rows(entry, page, smaller(rows - j, kAttentionBlock), args.key_dim, to + j * width,
                   width);
  }
  if (width == args.key_dim) return;
  for (int64_t j = 0; j < rows; ++j) {
    std::fill(to + j * width + args.key_dim, to + (j + 1) * width, BFloat16{});
  }
}

/// Key j of the span, both parts filled up with zeros to blocks of 32, `block` elements apart.
inline void copy_key(const AttentionArgs& args, int32_t kv_head, int64_t first, int64_t j,
                     int64_t block, BFloat16* to) {
  const int64_t page = first / kAttentionBlock + j / kAttentionBlock, row = j % kAttentionBlock;
  auto part = [&](const void* rows, int64_t at, int64_t dims) {
    const auto* from = static_cast<const BFloat16*>(rows) + at;
    for (; dims >= 32; dims -= 32, from += 32, to += block) store_row32(to, load_row32(from));
    if (dims > 0) store_row32(to, load_row32(from, dims)), to += block;
  };
  part(args.key_blocks[page], row * args.key_row_stride + kv_head * args.key_head_stride,
       args.key_dim);
  if (args.shared_dim == 0) return;
  part(args.shared_blocks[page], row * args.shared_row_stride, args.shared_dim);
}

/// Finds, or makes in `copy` [256][key_width], the keys and values of the span that begins with
/// key `first`.
inline SpanKeys span_keys(const AttentionArgs& args, int32_t kv_head, int64_t first, bool in_place,
                          BFloat16* copy) {
  SpanKeys out;
  const int64_t width = key_width(args);
  const bool decoded = args.key_format != KvFormat::kModel;
  out.valid = smaller(kAttentionSpan, args.first_position + args.num_queries - first);
  const int64_t from = in_place ? out.valid / 16 * 16 : 0;
  const int64_t rows = (out.valid + 15) / 16 * 16;
  // Decoded rows are values too; copied keys are read as tiles only.
  const KeyLayout made = decoded ? rows_layout(width) : tiles_layout(width);
  if (decoded) decode_keys(args, first, out.valid, copy);
  for (int64_t j = decoded ? out.valid : from; j < rows; ++j) {
    BFloat16* to = copy + (j - from) / 16 * made.tile + j % 16 * made.row;
    if (j < out.valid) {
      copy_key(args, kv_head, first, j, made.block, to);
      continue;
    }
    for (int64_t d = 0; d < width; d += 32) store_row32(to + d / 32 * made.block, zero_row32());
  }
  out.layout = in_place ? rows_layout(args.key_row_stride) : made;
  out.value_stride = decoded ? width : args.value_row_stride;
  if (in_place && from < rows) out.tail = copy, out.tail_layout = made;
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

}  // namespace mole::kernels::MOLE_ISA
