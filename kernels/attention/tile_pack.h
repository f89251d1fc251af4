// Queries, keys and values of attention in float32, and of its gradient, in the order in which
// kernels/attention/tiles.h multiplies them.
#pragma once

#include <cstdint>

#include "kernels/attention/tiles.h"
#include "kernels/cpu/transpose.h"

namespace mole::kernels::MOLE_ISA {

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
