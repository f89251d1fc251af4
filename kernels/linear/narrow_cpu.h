// Codes of one group of 128 k to bfloat16 tiles, with AVX2's instructions (which AVX-512 machines
// without VBMI use as well).
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels::MOLE_ISA {

/// Two rows' eight values each, from 16 codes.
struct NarrowPair {
  __m128i first, second;
};

inline NarrowPair unpack_fp8(__m128i codes) {
  const __m256i words = _mm256_cvtepu8_epi16(codes);
  const __m256i sign = _mm256_slli_epi16(_mm256_and_si256(words, _mm256_set1_epi16(0x80)), 8);
  const __m256i magnitude = _mm256_and_si256(words, _mm256_set1_epi16(0x7f));
  // Exponents of e4m3 are 120 less than bfloat16's.
  const __m256i normal =
      _mm256_add_epi16(_mm256_slli_epi16(magnitude, 4), _mm256_set1_epi16(120 << 7));
  // Denormals m * 2^-9, m = 0 … 7: low bytes and then high bytes of their bfloat16 form.
  const __m256i table = _mm256_broadcastsi128_si256(
      _mm_setr_epi8(0, 0, static_cast<char>(0x80), static_cast<char>(0xc0), 0, 0x20, 0x40, 0x60,  //
                    0, 0x3b, 0x3b, 0x3b, 0x3c, 0x3c, 0x3c, 0x3c));
  const __m256i index =
      _mm256_or_si256(_mm256_and_si256(magnitude, _mm256_set1_epi16(7)), _mm256_set1_epi16(0x0800));
  const __m256i both = _mm256_or_si256(
      index, _mm256_slli_epi16(_mm256_and_si256(magnitude, _mm256_set1_epi16(7)), 8));
  const __m256i denormal = _mm256_shuffle_epi8(table, both);
  const __m256i small = _mm256_cmpgt_epi16(_mm256_set1_epi16(8), magnitude);
  const __m256i value = _mm256_or_si256(sign, _mm256_blendv_epi8(normal, denormal, small));
  return {_mm256_castsi256_si128(value), _mm256_extracti128_si256(value, 1)};
}

/// Eight sign-and-magnitude codes (the low half).
inline __m128i unpack_int8(__m128i codes) {
  const __m256i words = _mm256_cvtepu8_epi32(codes);
  const __m256i sign = _mm256_slli_epi32(_mm256_and_si256(words, _mm256_set1_epi32(0x80)), 24);
  const __m256 magnitude = _mm256_cvtepi32_ps(_mm256_and_si256(words, _mm256_set1_epi32(0x7f)));
  const __m256i bits = _mm256_srli_epi32(_mm256_or_si256(_mm256_castps_si256(magnitude), sign), 16);
  return _mm_packus_epi32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
}

/// Codes 0 … 15 for -8 … 7.
inline NarrowPair unpack_int4(__m128i codes) {
  constexpr auto c = [](int byte) { return static_cast<char>(byte); };
  const __m128i low = _mm_setr_epi8(0, c(0xe0), c(0xc0), c(0xa0), c(0x80), 0x40, 0, c(0x80), 0,
                                    c(0x80), 0, 0x40, c(0x80), c(0xa0), c(0xc0), c(0xe0));
  const __m128i high = _mm_setr_epi8(c(0xc1), c(0xc0), c(0xc0), c(0xc0), c(0xc0), c(0xc0), c(0xc0),
                                     c(0xbf), 0, 0x3f, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40);
  const __m128i lows = _mm_shuffle_epi8(low, codes), highs = _mm_shuffle_epi8(high, codes);
  return {_mm_unpacklo_epi8(lows, highs), _mm_unpackhi_epi8(lows, highs)};
}

/// Sixteen 8-bit codes of two tile rows.
inline NarrowPair unpack_narrow(WeightFormat format, __m128i codes) {
  if (format == WeightFormat::kFp8) return unpack_fp8(codes);
  return {unpack_int8(codes), unpack_int8(_mm_srli_si128(codes, 8))};
}

inline void store_pair(const NarrowPair& pair, BFloat16* row) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row), pair.first);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(row + 2 * kPanel), pair.second);
}

/// One group's codes to four tiles of 32 k.
inline void unpack_group(WeightFormat format, const std::byte* codes, BFloat16* tiles) {
  constexpr int64_t kRow = 2 * kPanel;  // values of a tile's row
  if (format == WeightFormat::kInt4) {
    const __m128i mask = _mm_set1_epi8(15);
    for (int64_t line = 0; line < kGroupElements / 2; line += 64, tiles += 4 * kRow) {
      for (int64_t lane = 0; lane < 4; ++lane) {
        const __m128i pairs =
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + line + 16 * lane));
        store_pair(unpack_int4(_mm_and_si128(pairs, mask)), tiles + 8 * lane);
        store_pair(unpack_int4(_mm_and_si128(_mm_srli_epi16(pairs, 4), mask)),
                   tiles + 2 * kRow + 8 * lane);
      }
    }
    return;
  }
  for (int64_t line = 0; line < kGroupElements; line += 64, tiles += 2 * kRow) {
    for (int64_t lane = 0; lane < 4; ++lane) {
      const __m128i from =
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + line + 16 * lane));
      store_pair(unpack_narrow(format, from), tiles + 8 * lane);
    }
  }
}

}  // namespace mole::kernels::MOLE_ISA
