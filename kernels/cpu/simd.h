// Sixteen float32 lanes, the same bits on every instruction set: one AVX-512 register, or two of
// AVX2. A kernel's source is written once against this header and compiled once per instruction set
// (cmake/mole_kernel.cmake); kernels/cpu/isa.h chooses at run time. Only fused or single-rounding
// operations are offered, so AVX2 and AVX-512 builds of a kernel give equal results.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "base/dtype.h"

// Every instruction set's copy lives in its own namespace, or the linker would merge them.
#if defined(__AVX512F__) && defined(__AVX512BW__)
#define MOLE_ISA avx512
#else
#define MOLE_ISA avx2
#endif

namespace mole::kernels::MOLE_ISA {

#if defined(__AVX512F__) && defined(__AVX512BW__)

struct F32x16 {
  __m512 v;
};
inline F32x16 zero16() { return {_mm512_setzero_ps()}; }
inline F32x16 set16(float x) { return {_mm512_set1_ps(x)}; }
inline F32x16 load16(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store16(float* p, F32x16 x) { _mm512_storeu_ps(p, x.v); }
inline F32x16 add16(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F32x16 sub16(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F32x16 mul16(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F32x16 div16(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F32x16 sqrt16(F32x16 a) { return {_mm512_sqrt_ps(a.v)}; }
inline F32x16 max16(F32x16 a, F32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F32x16 min16(F32x16 a, F32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
/// a * b + c, rounded once.
inline F32x16 fma16(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
/// -(a * b) + c, rounded once.
inline F32x16 fnma16(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
/// Nearest integer, ties to even.
inline F32x16 round16(F32x16 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
/// 2^n for integral n in [-127, 128]; -127 gives 0, 128 infinity.
inline F32x16 exp2_int16(F32x16 n) {
  const __m512i i = _mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(i, 23))};
}
inline F32x16 load16(const BFloat16* p) {
  const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16))};
}
/// Rounds to nearest even as to_bfloat16 does (NaN kept quiet).
inline void store16(BFloat16* p, F32x16 x) {
  const __m512i bits = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_srli_epi32(
      _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
  rounded =
      _mm512_mask_or_epi32(rounded, nan, _mm512_srli_epi32(bits, 16), _mm512_set1_epi32(0x40));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
}
/// From 16 pairs of bfloat16 (64 bytes): the even, or the odd, member of each pair.
inline F32x16 load_even16(const BFloat16* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16))};
}
inline F32x16 load_odd16(const BFloat16* p) {
  return {_mm512_castsi512_ps(
      _mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
}

#else

struct F32x16 {
  __m256 lo, hi;
};
inline F32x16 zero16() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F32x16 set16(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32x16 load16(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store16(float* p, F32x16 x) {
  _mm256_storeu_ps(p, x.lo);
  _mm256_storeu_ps(p + 8, x.hi);
}
inline F32x16 add16(F32x16 a, F32x16 b) {
  return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}
inline F32x16 sub16(F32x16 a, F32x16 b) {
  return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}
inline F32x16 mul16(F32x16 a, F32x16 b) {
  return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}
inline F32x16 div16(F32x16 a, F32x16 b) {
  return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}
inline F32x16 sqrt16(F32x16 a) { return {_mm256_sqrt_ps(a.lo), _mm256_sqrt_ps(a.hi)}; }
inline F32x16 max16(F32x16 a, F32x16 b) {
  return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}
inline F32x16 min16(F32x16 a, F32x16 b) {
  return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)};
}
inline F32x16 fma16(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 fnma16(F32x16 a, F32x16 b, F32x16 c) {
  return {_mm256_fnmadd_ps(a.lo, b.lo, c.lo), _mm256_fnmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32x16 round16(F32x16 a) {
  constexpr int kMode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  return {_mm256_round_ps(a.lo, kMode), _mm256_round_ps(a.hi, kMode)};
}
inline F32x16 exp2_int16(F32x16 n) {
  const __m256i bias = _mm256_set1_epi32(127);
  return {
      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.lo), bias), 23)),
      _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.hi), bias), 23))};
}
inline __m256 widen8(const BFloat16* p) {
  const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
inline F32x16 load16(const BFloat16* p) { return {widen8(p), widen8(p + 8)}; }
inline __m128i narrow8(__m256 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_srli_epi32(
      _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i quiet = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  const __m256i chosen = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1));
}
inline void store16(BFloat16* p, F32x16 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), narrow8(x.lo));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), narrow8(x.hi));
}
inline __m256i load_pairs8(const BFloat16* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline F32x16 load_even16(const BFloat16* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(load_pairs8(p), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(load_pairs8(p + 16), 16))};
}
inline F32x16 load_odd16(const BFloat16* p) {
  const __m256i mask = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
  return {_mm256_castsi256_ps(_mm256_and_si256(load_pairs8(p), mask)),
          _mm256_castsi256_ps(_mm256_and_si256(load_pairs8(p + 16), mask))};
}

#endif

/// The first n (0 … 16) lanes from memory, the others 0; nothing past them is touched.
template <typename T>
inline F32x16 load_part16(const T* p, int64_t n) {
  if (n >= 16) return load16(p);
  alignas(64) T lane[16] = {};
  for (int64_t i = 0; i < n; ++i) lane[i] = p[i];
  return load16(lane);
}
/// The first n (0 … 16) lanes to memory.
template <typename T>
inline void store_part16(T* p, F32x16 x, int64_t n) {
  if (n >= 16) return store16(p, x);
  alignas(64) T lane[16];
  store16(lane, x);
  for (int64_t i = 0; i < n; ++i) p[i] = lane[i];
}

/// Sum of the lanes in the one order used everywhere: (i, i+8), (i, i+4), (i, i+2), (i, i+1).
inline float sum_lanes16(F32x16 x) {
  alignas(64) float lane[16];
  store16(lane, x);
  for (int width = 8; width >= 1; width /= 2) {
    for (int i = 0; i < width; ++i) lane[i] = lane[i] + lane[i + width];
  }
  return lane[0];
}
inline float max_lanes16(F32x16 x) {
  alignas(64) float lane[16];
  store16(lane, x);
  float best = lane[0];
  for (int i = 1; i < 16; ++i) best = lane[i] > best ? lane[i] : best;
  return best;
}

}  // namespace mole::kernels::MOLE_ISA
