#include <immintrin.h>

#include "kernels/cases/gemv_probe.h"

namespace mole::kernels {

void probe_gemv_bf16(const void* block, const uint16_t* x, float* y) {
  constexpr int kAhead = 2048, kChains = 4;
  const auto* line = static_cast<const char*>(block);
  __m512 sums[2 * kChains];
#pragma GCC unroll 8
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t k = 0; k < GemvProbe::kDepth; k += 2 * kChains) {
#pragma GCC unroll 8
    for (int i = 0; i < 2 * kChains; ++i, line += 64) {
      _mm_prefetch(line + kAhead, _MM_HINT_T0);
      int32_t pair;
      __builtin_memcpy(&pair, x + k + i / 2 * 2, sizeof pair);
      const auto factor = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      const auto weight = reinterpret_cast<__m512bh>(_mm512_loadu_si512(line));
      sums[i] = _mm512_dpbf16_ps(sums[i], factor, weight);
    }
  }
  for (int half = 0; half < 2; ++half) {
    const __m512 low = _mm512_add_ps(sums[half], sums[half + 2]);
    const __m512 high = _mm512_add_ps(sums[half + 4], sums[half + 6]);
    _mm512_storeu_ps(y + 16 * half, _mm512_add_ps(low, high));
  }
}

}  // namespace mole::kernels
