// Working memory of one thread's pass over spans.
#pragma once

#include "kernels/attention/span_pack.h"
#include "kernels/cpu/scratch.h"

namespace mole::kernels::MOLE_ISA {

/// What a tile of rows sees of the span at hand.
struct alignas(64) SpanTile {
  MergeFactors factors;
  alignas(64) float limit[16];  // row i sees the first limit[i] keys, at most 256
  int64_t least, most;          // of them; most is 0 where the span lies after all rows
};

struct SpanMemory {
  BFloat16* queries = nullptr;        // [heads][tiles][blocks of 32 dimensions][tile]
  float* states = nullptr;            // [heads][tiles][state]
  BFloat16* probabilities = nullptr;  // [tiles][8 blocks of 32 keys][tile], of one head
  SpanTile* tiles = nullptr;          // [tiles], of one head
  BFloat16* keys = nullptr;           // [256][key width]
  BFloat16* values = nullptr;         // [4 columns][8 blocks][tile]
  BFloat16* own_values = nullptr;     // the same, as some rows may see them
  float* scores = nullptr;            // [2 tiles][256][16 rows]
  float* product = nullptr;           // [4 columns][16 rows][16]

  /// The thread's scratch, all of it a multiple of 64 bytes.
  void take(int64_t heads, int64_t num_tiles, int64_t query_elements, int64_t state_floats,
            int64_t key_width) {
    const int64_t all = heads * num_tiles, key_elements = kAttentionSpan * key_width;
    const int64_t chunk = kChunkTiles * kSpanBlocks * kTileElements;
    const int64_t weights = num_tiles * kSpanBlocks * kTileElements;
    const int64_t score_floats = 2 * kAttentionSpan * kTileRows, product_floats = 256 * kChunkTiles;
    std::byte* memory =
        thread_scratch(2 * (all * query_elements + weights + key_elements + 2 * chunk) +
                       4 * (all * state_floats + score_floats + product_floats) +
                       num_tiles * int64_t{sizeof(SpanTile)});
    auto next = [&memory](int64_t size) { return (memory += size) - size; };
    auto numbers = [&](int64_t count) { return reinterpret_cast<BFloat16*>(next(2 * count)); };
    auto floats = [&](int64_t count) { return reinterpret_cast<float*>(next(4 * count)); };
    queries = numbers(all * query_elements);
    states = floats(all * state_floats);
    probabilities = numbers(weights);
    tiles = reinterpret_cast<SpanTile*>(next(num_tiles * int64_t{sizeof(SpanTile)}));
    keys = numbers(key_elements);
    values = numbers(chunk);
    own_values = numbers(chunk);
    scores = floats(score_floats);
    product = floats(product_floats);
  }
};

}  // namespace mole::kernels::MOLE_ISA
