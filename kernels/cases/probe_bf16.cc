#include <immintrin.h>

#include <cstring>

#include "kernels/cases/gemv_probe.h"

namespace mole::kernels {
namespace {

constexpr int kAhead = 2048;  // bytes

__m512bh pair_at(const uint16_t* x) {
  int32_t pair;
  std::memcpy(&pair, x, sizeof pair);
  return reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
}
__m512bh line_at(const char* line) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(line)); }

}  // namespace

void probe_gemv_bf16(const void* block, const uint16_t* x, float* y) {
  constexpr int kSums = 8;  // chains: two halves of 32 outputs, four of k
  const auto* line = static_cast<const char*>(block);
  __m512 sums[kSums], least = _mm512_set1_ps(3.0e38f);
  for (int64_t part = 0; part < GemvProbe::kStreams / 2; ++part) {
#pragma GCC unroll 8
    for (auto& sum : sums) sum = _mm512_setzero_ps();
    for (int64_t k = 0; k < GemvProbe::kDepth; k += kSums) {
#pragma GCC unroll 8
      for (int i = 0; i < kSums; ++i, line += 64) {
        _mm_prefetch(line + kAhead, _MM_HINT_T0);
        sums[i] = _mm512_dpbf16_ps(sums[i], pair_at(x + k + i / 2 * 2), line_at(line));
      }
    }
    for (int half = 0; half < 2; ++half) {
      const __m512 low = _mm512_add_ps(sums[half], sums[half + 2]);
      const __m512 high = _mm512_add_ps(sums[half + 4], sums[half + 6]);
      least = _mm512_min_ps(least, _mm512_add_ps(low, high));
    }
  }
  _mm512_storeu_ps(y, least);
}

void probe_gemv_streams_bf16(const void* block, const uint16_t* x, float* y) {
  constexpr int kStreams = GemvProbe::kStreams;
  constexpr int64_t kStream = GemvProbe::kBlockBytes / kStreams;
  constexpr int64_t kLast = GemvProbe::kDepth - kAhead / 64 * 2;  // k from which it looks past
  const auto* line = static_cast<const char*>(block);
  __m512 sums[kStreams];
#pragma GCC unroll 8
  for (auto& sum : sums) sum = _mm512_setzero_ps();
  for (int64_t k = 0; k < GemvProbe::kDepth; k += 2, line += 64) {
    const __m512bh factor = pair_at(x + k);
    const int64_t ahead = k < kLast ? kAhead : kAhead + (kStreams - 1) * kStream;
#pragma GCC unroll 8
    for (int i = 0; i < kStreams; ++i) {
      _mm_prefetch(line + i * kStream + ahead, _MM_HINT_T0);
      sums[i] = _mm512_dpbf16_ps(sums[i], factor, line_at(line + i * kStream));
    }
  }
  for (int i = 1; i < kStreams; ++i) sums[0] = _mm512_min_ps(sums[0], sums[i]);
  _mm512_storeu_ps(y, sums[0]);
}

}  // namespace mole::kernels
