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

  struct Rounding {
    static void round_pairs(F32x16& even, F32x16& odd, uint32_t* to) {
      // Rounds as round_bf16 does; no probability is denormal.
      const __m512bh both = _mm512_cvtne2ps_pbh(odd.v, even.v);
      const __m512i order =
          _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                           6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
      const __m512i words = _mm512_permutexvar_epi16(order, reinterpret_cast<const __m512i&>(both));
      _mm512_storeu_si512(to, words);
      even.v = _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
      odd.v = _mm512_castsi512_ps(
          _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    }
  };

  template <int K>
  static void scores(const KeyTiles& keys, const BFloat16* q, int64_t blocks, float* out,
                     Ahead& ahead) {
    const int64_t tile = keys.layout.tile, bytes = 2 * keys.layout.row, step = keys.layout.block;
    const BFloat16* k = keys.data;
    clear<K>();
    for (int64_t block = 0; block < blocks; ++block, q += kTileElements, k += step) {
      _tile_loadd(7, q, kTileStride);
      ahead.step();
      next_lines(k + step, bytes);
      _tile_loadd(4, k, bytes);
      _tile_dpbf16ps(0, 4, 7);
      if constexpr (K > 1) {
        next_lines(k + tile + step, bytes);
        _tile_loadd(5, k + tile, bytes);
        _tile_dpbf16ps(1, 5, 7);
      }
      if constexpr (K > 2) {
        next_lines(k + 2 * tile + step, bytes);
        _tile_loadd(6, k + 2 * tile, bytes);
        _tile_dpbf16ps(2, 6, 7);
      }
      if constexpr (K > 3) {
        next_lines(k + 3 * tile + step, bytes);
        _tile_loadd(4, k + 3 * tile, bytes);
        _tile_dpbf16ps(3, 4, 7);
      }
    }
    store<K>(out);
  }

  static void scores_of_two(const KeyTiles& keys, const BFloat16* q, int64_t blocks, float* out,
                            Ahead& ahead) {
    const int64_t tile = keys.layout.tile, bytes = 2 * keys.layout.row, step = keys.layout.block;
    const int64_t next_q = blocks * kTileElements;
    const BFloat16* k = keys.data;
    clear<4>();
    for (int64_t block = 0; block < blocks; ++block, q += kTileElements, k += step) {
      _tile_loadd(4, k, bytes);
      _tile_loadd(6, q, kTileStride);
      ahead.step();
      _tile_dpbf16ps(0, 4, 6);
      _tile_loadd(7, q + next_q, kTileStride);
      _tile_dpbf16ps(1, 4, 7);
      _tile_loadd(5, k + tile, bytes);
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
