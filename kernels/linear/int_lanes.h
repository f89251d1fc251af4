// Sixteen int32 lanes beside F32x16 (kernels/cpu/simd.h), and bytes to and from them.
#pragma once

#include "kernels/cpu/simd.h"

namespace mole::kernels::MOLE_ISA {

#if defined(__AVX512F__) && defined(__AVX512BW__)

struct I32x16 {
  __m512i v;
};
inline I32x16 zero_int16() { return {_mm512_setzero_si512()}; }
inline I32x16 load_int16(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline I32x16 add16(I32x16 a, I32x16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
/// Nearest integers, ties to even.
inline I32x16 to_int16(F32x16 a) { return {_mm512_cvtps_epi32(a.v)}; }
inline F32x16 to_float16(I32x16 a) { return {_mm512_cvtepi32_ps(a.v)}; }
/// Of lanes in [-128, 127].
inline void store_int8(int8_t* p, I32x16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
inline void store_int16(int32_t* p, I32x16 a) { _mm512_storeu_si512(p, a.v); }

#else

struct I32x16 {
  __m256i lo, hi;
};
inline I32x16 zero_int16() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline I32x16 load_int16(const int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
inline I32x16 add16(I32x16 a, I32x16 b) {
  return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)};
}
inline I32x16 to_int16(F32x16 a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
inline F32x16 to_float16(I32x16 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
inline void store_int8(int8_t* p, I32x16 a) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}
inline void store_int16(int32_t* p, I32x16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), a.hi);
}

#endif

inline int32_t sum_lanes16(I32x16 x) {
  alignas(64) int32_t lane[16];
  store_int16(lane, x);
  int32_t sum = 0;
  for (const int32_t value : lane) sum += value;
  return sum;
}

}  // namespace mole::kernels::MOLE_ISA
