#include <algorithm>
#include <bit>
#include <cfloat>

#include "kernels/cpu/exp.h"
#include "kernels/cpu/lanes.h"
#include "kernels/sampling/sampling_rows.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr float kLowest = -__builtin_inff();

/// Which of the sixteen lanes hold a >= b: bit i for lane i. A NaN is not.
inline uint32_t at_least16(F32x16 a, F32x16 b) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ);
#else
  return static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ))) |
         static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ))) << 8;
#endif
}

/// x where a >= b, else 0.
inline F32x16 where_at_least16(F32x16 a, F32x16 b, F32x16 x) {
#if defined(__AVX512F__)
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GE_OQ), x.v)};
#else
  return {_mm256_and_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_GE_OQ), x.lo),
          _mm256_and_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_GE_OQ), x.hi)};
#endif
}

/// The lanes of ids [i, i + 16) of a row; those behind its end hold `rest`.
inline F32x16 load_ids(const float* row, int64_t i, int64_t vocab, float rest) {
  if (i + 16 <= vocab) return load16(row + i);
  alignas(64) float lane[16];
  for (int64_t k = 0; k < 16; ++k) lane[k] = i + k < vocab ? row[i + k] : rest;
  return load16(lane);
}

inline F32x16 weight16(F32x16 logits, F32x16 largest, F32x16 rate) {
  const F32x16 x = mul16(sub16(logits, largest), rate);
  return where_at_least16(x, set16(kLeastExponent), exp16(x));
}

}  // namespace

bool block_maxima(const float* logits, int64_t vocab, float* maxima) {
  // 0 times a number is 0, times an infinity or NaN it is NaN; -infinity is let through.
  F32x16 sound = zero16();
  for (int64_t begin = 0; begin < vocab; begin += kVocabBlock) {
    const int64_t end = std::min(vocab, begin + kVocabBlock);
    F32x16 largest = set16(kLowest);
    for (int64_t i = begin; i < end; i += 16) {
      const F32x16 x = load_ids(logits, i, end, kLowest);
      largest = max16(largest, x);
      // max gives its second operand if one is NaN.
      sound = fma16(max16(set16(-FLT_MAX), x), zero16(), sound);
    }
    *maxima++ = fold_max16(largest);
  }
  return at_least16(sound, zero16()) == 0xffff;
}

void sampling_weights(const float* logits, int64_t vocab, float largest, float rate, float* weights,
                      float* sums) {
  for (int64_t begin = 0; begin < vocab; begin += kVocabBlock) {
    const int64_t end = std::min(vocab, begin + kVocabBlock);
    F32x16 sum = zero16();
    for (int64_t i = begin; i < end; i += 16) {
      const F32x16 x = load_ids(logits, i, end, kLowest);
      const F32x16 weight = weight16(x, set16(largest), set16(rate));
      sum = add16(sum, weight);
      store_partial16(weights + i, weight, end - i);
    }
    *sums++ = fold_sum16(sum);
  }
}

float sampling_weight(float logit, float largest, float rate) {
  alignas(64) float lane[16];
  store16(lane, weight16(set16(logit), set16(largest), set16(rate)));
  return lane[0];
}

int64_t sums_at_least(const float* weights, int64_t vocab, float least, float* sums) {
  int64_t count = 0;
  for (int64_t begin = 0; begin < vocab; begin += kVocabBlock) {
    const int64_t end = std::min(vocab, begin + kVocabBlock);
    F32x16 sum = zero16();
    for (int64_t i = begin; i < end; i += 16) {
      const F32x16 weight = load_ids(weights, i, end, -1.0f);
      sum = add16(sum, where_at_least16(weight, set16(least), weight));
      count += std::popcount(at_least16(weight, set16(least)));
    }
    *sums++ = fold_sum16(sum);
  }
  return count;
}

int64_t ids_between(const float* values, int64_t vocab, float least, float below, TokenId* ids) {
  int64_t count = 0;
  for (int64_t i = 0; i < vocab; i += 16) {
    const F32x16 value = load_ids(values, i, vocab, __builtin_nanf(""));
    uint32_t found = at_least16(value, set16(least)) & ~at_least16(value, set16(below));
    if (ids == nullptr) count += std::popcount(found);
    for (; ids != nullptr && found != 0; found &= found - 1) {
      ids[count++] = static_cast<TokenId>(i + std::countr_zero(found));
    }
  }
  return count;
}

}  // namespace mole::kernels::MOLE_ISA
