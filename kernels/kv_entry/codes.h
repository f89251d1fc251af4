// Sixteen lanes to and from one-byte codes: int8 and e4m3fn, for both instruction sets.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace mole::kernels::MOLE_ISA {

// e4m3fn by the bits of a float32: exponent 8 bits less biased by 120, 20 bits of fraction fewer.
// What float32 codes as 2^-6 is the least normal number; below it codes count steps of 2^-9.
inline constexpr int kDropBits = 20, kRebias = 120 << 3;

#if defined(__AVX512F__) && defined(__AVX512BW__)

/// Nearest even integers of -127 … 127.
inline void store_int8(uint8_t* p, F32x16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)));
}
inline F32x16 load_int8(const uint8_t* p) {
  const __m128i codes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(codes))};
}

/// Nearest e4m3fn, ties to even, of magnitudes up to 463.
inline void store_e4m3(uint8_t* p, F32x16 x) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(bits, 24), _mm512_set1_epi32(0x80));
  const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(size, kDropBits), _mm512_set1_epi32(1));
  const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32((1 << (kDropBits - 1)) - 1));
  const __m512i normal = _mm512_sub_epi32(
      _mm512_srli_epi32(_mm512_add_epi32(size, half), kDropBits), _mm512_set1_epi32(kRebias));
  const __m512 steps = _mm512_mul_ps(_mm512_castsi512_ps(size), _mm512_set1_ps(512.0f));
  const __mmask16 small =
      _mm512_cmp_ps_mask(_mm512_castsi512_ps(size), _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);
  const __m512i code = _mm512_mask_mov_epi32(normal, small, _mm512_cvtps_epi32(steps));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm512_cvtepi32_epi8(_mm512_or_si512(code, sign)));
}
inline F32x16 load_e4m3(const uint8_t* p) {
  const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i size = _mm512_and_si512(codes, _mm512_set1_epi32(0x7f));
  const __m512i sign = _mm512_slli_epi32(_mm512_srli_epi32(codes, 7), 31);
  const __m512i normal =
      _mm512_slli_epi32(_mm512_add_epi32(size, _mm512_set1_epi32(kRebias)), kDropBits);
  const __mmask16 small = _mm512_cmplt_epi32_mask(size, _mm512_set1_epi32(8));
  const __m512 value = _mm512_mask_mul_ps(_mm512_castsi512_ps(normal), small,
                                          _mm512_cvtepi32_ps(size), _mm512_set1_ps(0x1p-9f));
  return {_mm512_castsi512_ps(_mm512_or_si512(_mm512_castps_si512(value), sign))};
}

#else

/// The low bytes of sixteen integers.
inline void store_bytes(uint8_t* p, __m256i low, __m256i high) {
  const __m256i mask = _mm256_set1_epi32(0xff);
  const __m256i words =
      _mm256_packus_epi32(_mm256_and_si256(low, mask), _mm256_and_si256(high, mask));
  const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
  _mm_storeu_si128(
      reinterpret_cast<__m128i*>(p),
      _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1)));
}
inline void store_int8(uint8_t* p, F32x16 x) {
  store_bytes(p, _mm256_cvtps_epi32(x.lo), _mm256_cvtps_epi32(x.hi));
}
inline __m128i load_codes8(const uint8_t* p) {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
}
inline F32x16 load_int8(const uint8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_codes8(p))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(load_codes8(p + 8)))};
}

inline __m256i e4m3_codes8(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i sign = _mm256_and_si256(_mm256_srli_epi32(bits, 24), _mm256_set1_epi32(0x80));
  const __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fffffff));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(size, kDropBits), _mm256_set1_epi32(1));
  const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32((1 << (kDropBits - 1)) - 1));
  const __m256i normal = _mm256_sub_epi32(
      _mm256_srli_epi32(_mm256_add_epi32(size, half), kDropBits), _mm256_set1_epi32(kRebias));
  const __m256 magnitude = _mm256_castsi256_ps(size);
  const __m256i steps = _mm256_cvtps_epi32(_mm256_mul_ps(magnitude, _mm256_set1_ps(512.0f)));
  const __m256 small = _mm256_cmp_ps(magnitude, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ);
  return _mm256_or_si256(_mm256_blendv_epi8(normal, steps, _mm256_castps_si256(small)), sign);
}
inline void store_e4m3(uint8_t* p, F32x16 x) {
  store_bytes(p, e4m3_codes8(x.lo), e4m3_codes8(x.hi));
}
inline __m256 load_e4m3_8(const uint8_t* p) {
  const __m256i codes = _mm256_cvtepu8_epi32(load_codes8(p));
  const __m256i size = _mm256_and_si256(codes, _mm256_set1_epi32(0x7f));
  const __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(codes, 7), 31);
  const __m256i normal =
      _mm256_slli_epi32(_mm256_add_epi32(size, _mm256_set1_epi32(kRebias)), kDropBits);
  const __m256 steps = _mm256_mul_ps(_mm256_cvtepi32_ps(size), _mm256_set1_ps(0x1p-9f));
  const __m256i small = _mm256_cmpgt_epi32(_mm256_set1_epi32(8), size);
  const __m256i value = _mm256_blendv_epi8(normal, _mm256_castps_si256(steps), small);
  return _mm256_castsi256_ps(_mm256_or_si256(value, sign));
}
inline F32x16 load_e4m3(const uint8_t* p) { return {load_e4m3_8(p), load_e4m3_8(p + 8)}; }

#endif

}  // namespace mole::kernels::MOLE_ISA
