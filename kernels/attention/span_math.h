// Vector operations of attention in bfloat16 that kernels/cpu/simd.h lacks. In all of them a vector
// holds one value for each of the sixteen rows (queries of a head) of a tile.
#pragma once

#include <cstdint>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/lanes.h"

namespace mole::kernels::MOLE_ISA {

inline constexpr float kLowest = -__builtin_inff();

/// exp16_keep_nan for x <= 0 or NaN, the same bits with fewer operations: no result needs 2^128,
/// and a NaN comes through the polynomial on its own.
inline F32x16 exp16_below(F32x16 x) {
  // keeps a NaN: max16 returns its second operand then
  const ExpParts parts = exp_parts16(max16(set16(-88.0f), x));
#if defined(__AVX512F__) && defined(__AVX512BW__)
  // What would be denormal is flushed here as there.
  return {_mm512_scalef_ps(parts.fraction.v, parts.n.v)};
#else
  return mul16(parts.fraction, exp2_int16(parts.n));
#endif
}

#if defined(__AVX512F__) && defined(__AVX512BW__)

/// x where limit > index, -infinity elsewhere.
inline F32x16 keep_before(F32x16 x, F32x16 limit, float index) {
  const __mmask16 seen = _mm512_cmp_ps_mask(limit.v, _mm512_set1_ps(index), _CMP_GT_OQ);
  return {_mm512_mask_mov_ps(_mm512_set1_ps(kLowest), seen, x.v)};
}
/// What scores are shifted by: their maximum, or 0 where that is -infinity.
inline F32x16 shift_of(F32x16 largest) {
  const __mmask16 none = _mm512_cmp_ps_mask(largest.v, _mm512_set1_ps(kLowest), _CMP_EQ_OQ);
  return {_mm512_mask_mov_ps(largest.v, none, _mm512_setzero_ps())};
}
/// x as the nearest bfloat16, ties to even, for x >= 0 and the NaNs that arithmetic makes.
inline F32x16 round_bf16(F32x16 x) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return {
      _mm512_castsi512_ps(_mm512_and_si512(up, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}
/// Words of a rounded even and odd value.
inline void store_pairs(uint32_t* to, F32x16 even, F32x16 odd) {
  _mm512_storeu_si512(to, _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(even.v), 16),
                                          _mm512_castps_si512(odd.v)));
}

/// 32 bfloat16 of a row.
using Row32 = __m512i;
inline Row32 zero_row32() { return _mm512_setzero_si512(); }
/// The first `count` (1 to 32), the others zero.
inline Row32 load_row32(const BFloat16* p, int64_t count) {
  const auto mask = static_cast<__mmask32>(count >= 32 ? ~0u : (1u << count) - 1);
  return _mm512_maskz_loadu_epi16(mask, p);
}
inline Row32 load_row32(const BFloat16* p) { return _mm512_loadu_si512(p); }
inline void store_row32(BFloat16* p, Row32 row) { _mm512_storeu_si512(p, row); }
inline bool has_infinity_or_nan(Row32 row) {
  const __m512i top = _mm512_set1_epi16(0x7f80);
  return _mm512_cmpeq_epi16_mask(_mm512_and_si512(row, top), top) != 0;
}
/// Pairs (a, b) of 32 columns in two tiles' rows of 16 columns. The columns' order is that of the
/// unpack instructions; ordered_columns puts it right when results are written.
inline void store_column_pairs(Row32 a, Row32 b, BFloat16* first, BFloat16* second) {
  _mm512_storeu_si512(first, _mm512_unpacklo_epi16(a, b));
  _mm512_storeu_si512(second, _mm512_unpackhi_epi16(a, b));
}
inline void ordered_columns(F32x16& first, F32x16& second) {
  const __m512i low = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  const __m512 ordered = _mm512_permutex2var_ps(first.v, low, second.v);
  second.v = _mm512_permutex2var_ps(first.v, high, second.v);
  first.v = ordered;
}

#else

inline __m256 keep_before8(__m256 x, __m256 limit, float index) {
  const __m256 seen = _mm256_cmp_ps(limit, _mm256_set1_ps(index), _CMP_GT_OQ);
  return _mm256_blendv_ps(_mm256_set1_ps(kLowest), x, seen);
}
inline F32x16 keep_before(F32x16 x, F32x16 limit, float index) {
  return {keep_before8(x.lo, limit.lo, index), keep_before8(x.hi, limit.hi, index)};
}
inline __m256 shift_of8(__m256 largest) {
  const __m256 none = _mm256_cmp_ps(largest, _mm256_set1_ps(kLowest), _CMP_EQ_OQ);
  return _mm256_andnot_ps(none, largest);
}
inline F32x16 shift_of(F32x16 largest) { return {shift_of8(largest.lo), shift_of8(largest.hi)}; }
inline __m256 round_bf16_8(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_castsi256_ps(
      _mm256_and_si256(up, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}
inline F32x16 round_bf16(F32x16 x) { return {round_bf16_8(x.lo), round_bf16_8(x.hi)}; }
inline void store_pairs8(uint32_t* to, __m256 even, __m256 odd) {
  _mm256_storeu_si256(
      reinterpret_cast<__m256i*>(to),
      _mm256_or_si256(_mm256_srli_epi32(_mm256_castps_si256(even), 16), _mm256_castps_si256(odd)));
}
inline void store_pairs(uint32_t* to, F32x16 even, F32x16 odd) {
  store_pairs8(to, even.lo, odd.lo);
  store_pairs8(to + 8, even.hi, odd.hi);
}

struct Row32 {
  __m256i lo, hi;
};
inline Row32 zero_row32() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Row32 load_row32(const BFloat16* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 16))};
}
inline Row32 load_row32(const BFloat16* p, int64_t count) {
  if (count >= 32) return load_row32(p);
  alignas(32) BFloat16 row[32] = {};
  __builtin_memcpy(row, p, static_cast<size_t>(count) * sizeof(BFloat16));
  return load_row32(row);
}
inline void store_row32(BFloat16* p, Row32 row) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), row.lo);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 16), row.hi);
}
inline bool has_infinity_or_nan(Row32 row) {
  const __m256i top = _mm256_set1_epi16(0x7f80);
  const __m256i found = _mm256_or_si256(_mm256_cmpeq_epi16(_mm256_and_si256(row.lo, top), top),
                                        _mm256_cmpeq_epi16(_mm256_and_si256(row.hi, top), top));
  return _mm256_movemask_epi8(found) != 0;
}
inline void store_column_pairs16(__m256i a, __m256i b, BFloat16* to) {
  const __m256i low = _mm256_unpacklo_epi16(a, b), high = _mm256_unpackhi_epi16(a, b);
  auto* out = reinterpret_cast<__m256i*>(to);
  _mm256_storeu_si256(out, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(low, high, 0x31));
}
inline void store_column_pairs(Row32 a, Row32 b, BFloat16* first, BFloat16* second) {
  store_column_pairs16(a.lo, b.lo, first);
  store_column_pairs16(a.hi, b.hi, second);
}
inline void ordered_columns(F32x16&, F32x16&) {}

#endif

/// Rounds the values of an even and an odd key to bfloat16 and stores them as pairs.
struct PlainRounding {
  static void round_pairs(F32x16& even, F32x16& odd, uint32_t* to) {
    even = round_bf16(even);
    odd = round_bf16(odd);
    store_pairs(to, even, odd);
  }
};

}  // namespace mole::kernels::MOLE_ISA
