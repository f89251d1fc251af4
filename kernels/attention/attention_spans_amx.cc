// Spans with AMX. Four tiles of sums; the operand that all of them share in tile 7, the others in
// tiles 4 to 6 by turns, so that a load waits for no product. Two by two tiles read fewer lines a
// product, which counts where keys come from the second-level cache.
#include "kernels/attention/span_pass.h"
#include "kernels/cpu/amx_tiles.h"

namespace mole::kernels {
namespace avx512 {
namespace {

constexpr int kTileStride = 64;  // bytes

struct AmxEngine {
  using Scope = Tiles;

  template <int K>
  static void scores(const BFloat16* keys, int64_t stride, const BFloat16* q, int64_t blocks,
                     float* out, Ahead& ahead) {
    const int64_t bytes = 2 * stride;
    clear<K>();
    for (int64_t block = 0; block < blocks; ++block, q += kTileElements, keys += 32) {
      _tile_loadd(7, q, kTileStride);
      ahead.step();
      next_lines(keys + 32, bytes);
      _tile_loadd(4, keys, bytes);
      _tile_dpbf16ps(0, 4, 7);
      if constexpr (K > 1) {
        next_lines(keys + 16 * stride + 32, bytes);
        _tile_loadd(5, keys + 16 * stride, bytes);
        _tile_dpbf16ps(1, 5, 7);
      }
      if constexpr (K > 2) {
        next_lines(keys + 32 * stride + 32, bytes);
        _tile_loadd(6, keys + 32 * stride, bytes);
        _tile_dpbf16ps(2, 6, 7);
      }
      if constexpr (K > 3) {
        next_lines(keys + 48 * stride + 32, bytes);
        _tile_loadd(4, keys + 48 * stride, bytes);
        _tile_dpbf16ps(3, 4, 7);
      }
    }
    store<K>(out);
  }

  static void scores_of_two(const BFloat16* keys, int64_t stride, const BFloat16* q, int64_t blocks,
                            float* out, Ahead& ahead) {
    const int64_t bytes = 2 * stride, next_q = blocks * kTileElements;
    clear<4>();
    for (int64_t block = 0; block < blocks; ++block, q += kTileElements, keys += 32) {
      _tile_loadd(4, keys, bytes);
      _tile_loadd(6, q, kTileStride);
      ahead.step();
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, q + next_q, kTileStride);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, keys + 16 * stride, bytes);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
    float* second = out + kAttentionSpan * kTileRows;
    _tile_stored(0, out, kTileStride);
    _tile_stored(2, out + 256, kTileStride);
    _tile_stored(1, second, kTileStride);
    _tile_stored(3, second + 256, kTileStride);
  }

  template <int N>
  static void values(const BFloat16* p, const ChunkValues& values, int64_t blocks, float* out,
                     Ahead& ahead) {
    clear<N>();
    const BFloat16* next = values.block(0);
    for (int64_t block = 0; block < blocks; ++block, p += kTileElements) {
      const BFloat16* v = next;
      if (block + 1 < blocks) next = values.block(block + 1);
      _tile_loadd(7, p, kTileStride);
      ahead.step();
      _tile_loadd(4, v, kTileStride);
      _tile_dpbf16ps(0, 7, 4);
      _tile_loadd(5, v + kTileElements, kTileStride);
      _tile_dpbf16ps(1, 7, 5);
      if constexpr (N > 2) {
        _tile_loadd(6, v + 2 * kTileElements, kTileStride);
        _tile_dpbf16ps(2, 7, 6);
        _tile_loadd(4, v + 3 * kTileElements, kTileStride);
        _tile_dpbf16ps(3, 7, 4);
      }
    }
    store<N>(out);
  }

 private:
  /// Asks for what the next block's load of a tile of keys reads.
  static void next_lines(const BFloat16* keys, int64_t bytes) {
    const auto* line = reinterpret_cast<const char*>(keys);
#pragma GCC unroll 16
    for (int64_t row = 0; row < 16; ++row) _mm_prefetch(line + row * bytes, _MM_HINT_T0);
  }
  template <int N>
  static void clear() {
    _tile_zero(0);
    if constexpr (N > 1) _tile_zero(1);
    if constexpr (N > 2) _tile_zero(2);
    if constexpr (N > 3) _tile_zero(3);
  }
  template <int N>
  static void store(float* out) {
    _tile_stored(0, out, kTileStride);
    if constexpr (N > 1) _tile_stored(1, out + 256, kTileStride);
    if constexpr (N > 2) _tile_stored(2, out + 512, kTileStride);
    if constexpr (N > 3) _tile_stored(3, out + 768, kTileStride);
  }
};

}  // namespace
}  // namespace avx512

namespace amx {

void attention_spans(const SpanPiece* pieces, int64_t count) {
  avx512::run_pieces<avx512::AmxEngine>(pieces, count);
}

}  // namespace amx
}  // namespace mole::kernels
