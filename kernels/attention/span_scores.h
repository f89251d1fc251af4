// Products of one span's keys with tiles of rows, by the Engine of span_pass.h.
#pragma once

#include "kernels/attention/span_pack.h"

namespace mole::kernels::MOLE_ISA {

/// `tiles` (0 to 4) tiles of keys by one of rows, q [blocks][tile].
template <typename Engine>
void multiply_page(int64_t tiles, const KeyTiles& keys, const BFloat16* q, int64_t blocks,
                   float* out, Ahead& ahead) {
  switch (tiles) {
    case 4:
      return Engine::template scores<4>(keys, q, blocks, out, ahead);
    case 3:
      return Engine::template scores<3>(keys, q, blocks, out, ahead);
    case 2:
      return Engine::template scores<2>(keys, q, blocks, out, ahead);
    case 1:
      return Engine::template scores<1>(keys, q, blocks, out, ahead);
    default:
      return;
  }
}

/// Products of the first `most` keys, in whole tiles of 16: out [keys][16 rows].
template <typename Engine>
void multiply_keys(const BFloat16* q, int64_t blocks, const SpanKeys& keys, int64_t most,
                   float* out, Ahead& ahead) {
  const int64_t in_place = keys.tail == nullptr ? kAttentionSpan / 16 : keys.valid / 16;
  for (int64_t page = 0; page * kAttentionBlock < most; ++page) {
    const int64_t at = 4 * page, count = smaller(4, (most + 15) / 16 - at);
    const int64_t whole = larger(0, smaller(count, in_place - at));
    float* to = out + at * 256;
    multiply_page<Engine>(whole, {keys.keys[page], keys.layout}, q, blocks, to, ahead);
    if (whole == count) continue;
    Engine::template scores<1>({keys.tail, keys.tail_layout}, q, blocks, to + 256 * whole, ahead);
  }
}

/// Products of all keys with two tiles of rows, one after the other in q; the second's go behind
/// all of the first's.
template <typename Engine>
void multiply_keys_of_two(const BFloat16* q, int64_t blocks, const SpanKeys& keys, float* out,
                          Ahead& ahead) {
  for (int64_t j = 0; j < kAttentionSpan; j += 32) {
    const BFloat16* from =
        keys.keys[j / kAttentionBlock] + j % kAttentionBlock / 16 * keys.layout.tile;
    Engine::scores_of_two({from, keys.layout}, q, blocks, out + j * kTileRows, ahead);
  }
}

}  // namespace mole::kernels::MOLE_ISA
