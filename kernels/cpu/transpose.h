// A 16 by 16 block of 32-bit words turned over its diagonal: the heart of packing. The words are
// floats, or pairs of bfloat16.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace mole::kernels::MOLE_ISA {

#if defined(__AVX512F__) && defined(__AVX512BW__)

/// out[c] holds lane c of row[0 … 15].
inline void transpose16(const __m512i row[16], __m512i out[16]) {
  __m512i pair[16], quad[16];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    pair[2 * i] = _mm512_unpacklo_epi32(row[2 * i], row[2 * i + 1]);
    pair[2 * i + 1] = _mm512_unpackhi_epi32(row[2 * i], row[2 * i + 1]);
  }
  // quad[4 i + j]: of rows 4 i … 4 i + 3 the column j of each 128-bit lane.
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    quad[4 * i] = _mm512_unpacklo_epi64(pair[4 * i], pair[4 * i + 2]);
    quad[4 * i + 1] = _mm512_unpackhi_epi64(pair[4 * i], pair[4 * i + 2]);
    quad[4 * i + 2] = _mm512_unpacklo_epi64(pair[4 * i + 1], pair[4 * i + 3]);
    quad[4 * i + 3] = _mm512_unpackhi_epi64(pair[4 * i + 1], pair[4 * i + 3]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const __m512i low02 = _mm512_shuffle_i32x4(quad[j], quad[4 + j], 0x88);
    const __m512i low13 = _mm512_shuffle_i32x4(quad[j], quad[4 + j], 0xdd);
    const __m512i high02 = _mm512_shuffle_i32x4(quad[8 + j], quad[12 + j], 0x88);
    const __m512i high13 = _mm512_shuffle_i32x4(quad[8 + j], quad[12 + j], 0xdd);
    out[j] = _mm512_shuffle_i32x4(low02, high02, 0x88);
    out[4 + j] = _mm512_shuffle_i32x4(low13, high13, 0x88);
    out[8 + j] = _mm512_shuffle_i32x4(low02, high02, 0xdd);
    out[12 + j] = _mm512_shuffle_i32x4(low13, high13, 0xdd);
  }
}

/// Words (r, c) at source + r * stride bytes + 4 c go to out[16 c + r].
inline void transpose16(const void* source, int64_t stride, uint32_t* out) {
  __m512i row[16], turned[16];
#pragma GCC unroll 16
  for (int r = 0; r < 16; ++r) {
    row[r] = _mm512_loadu_si512(static_cast<const char*>(source) + r * stride);
  }
  transpose16(row, turned);
#pragma GCC unroll 16
  for (int c = 0; c < 16; ++c) _mm512_storeu_si512(out + 16 * c, turned[c]);
}

/// Pairs (a[i], b[i]) of sixteen bfloat16 each.
inline __m512i interleave16(const BFloat16* a, const BFloat16* b) {
  const __m512i low =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
  const __m512i high =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(b)));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}
inline void interleave16(const BFloat16* a, const BFloat16* b, BFloat16* out) {
  _mm512_storeu_si512(out, interleave16(a, b));
}

#else

inline void transpose8(const char* source, int64_t stride, uint32_t* out) {
  __m256 row[8], pair[8], quad[8];
#pragma GCC unroll 8
  for (int r = 0; r < 8; ++r) {
    row[r] = _mm256_loadu_ps(reinterpret_cast<const float*>(source + r * stride));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    pair[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
    pair[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    quad[4 * i] = _mm256_shuffle_ps(pair[4 * i], pair[4 * i + 2], 0x44);
    quad[4 * i + 1] = _mm256_shuffle_ps(pair[4 * i], pair[4 * i + 2], 0xee);
    quad[4 * i + 2] = _mm256_shuffle_ps(pair[4 * i + 1], pair[4 * i + 3], 0x44);
    quad[4 * i + 3] = _mm256_shuffle_ps(pair[4 * i + 1], pair[4 * i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    auto* low = reinterpret_cast<float*>(out + 16 * j);
    auto* high = reinterpret_cast<float*>(out + 16 * (4 + j));
    _mm256_storeu_ps(low, _mm256_permute2f128_ps(quad[j], quad[4 + j], 0x20));
    _mm256_storeu_ps(high, _mm256_permute2f128_ps(quad[j], quad[4 + j], 0x31));
  }
}
inline void transpose16(const void* source, int64_t stride, uint32_t* out) {
  const auto* bytes = static_cast<const char*>(source);
  for (int r = 0; r < 16; r += 8) {
    for (int c = 0; c < 16; c += 8)
      transpose8(bytes + r * stride + 4 * c, stride, out + 16 * c + r);
  }
}
inline void interleave16(const BFloat16* a, const BFloat16* b, BFloat16* out) {
  for (int i = 0; i < 16; i += 8) {
    const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(a + i));
    const __m128i high = _mm_loadu_si128(reinterpret_cast<const __m128i*>(b + i));
    auto* to = reinterpret_cast<__m128i*>(out + 2 * i);
    _mm_storeu_si128(to, _mm_unpacklo_epi16(low, high));
    _mm_storeu_si128(to + 1, _mm_unpackhi_epi16(low, high));
  }
}

#endif

}  // namespace mole::kernels::MOLE_ISA
