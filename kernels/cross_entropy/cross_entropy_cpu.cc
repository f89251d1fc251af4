#include "kernels/cpu/lanes.h"
#include "kernels/cross_entropy/cross_entropy_rows.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr float kLowest = -__builtin_inff();

/// The first `count` lanes of a row, the rest -infinity: they neither win a maximum nor add to a
/// sum.
inline F32x16 load_row(const float* p, int64_t count) {
  if (count >= 16) return load16(p);
  alignas(64) float lane[16];
  for (int64_t i = 0; i < 16; ++i) lane[i] = i < count ? p[i] : kLowest;
  return load16(lane);
}

/// Sixteen chains of doubles.
struct Chains {
  __m256d part[4] = {_mm256_setzero_pd(), _mm256_setzero_pd(), _mm256_setzero_pd(),
                     _mm256_setzero_pd()};

  void add(F32x16 x) {
    alignas(64) float lane[16];
    store16(lane, x);
    for (int i = 0; i < 4; ++i) {
      part[i] = _mm256_add_pd(part[i], _mm256_cvtps_pd(_mm_load_ps(lane + 4 * i)));
    }
  }

  /// Pairwise: (i, i+8), (i, i+4), (i, i+2), (i, i+1).
  double sum() const {
    const __m256d four =
        _mm256_add_pd(_mm256_add_pd(part[0], part[2]), _mm256_add_pd(part[1], part[3]));
    alignas(32) double lane[4];
    _mm256_store_pd(lane, four);
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
  }
};

}  // namespace

RowSum row_sum(const float* logits, int64_t vocab) {
  F32x16 largest = set16(kLowest);
  for (int64_t i = 0; i < vocab; i += 16) largest = max16(largest, load_row(logits + i, vocab - i));
  const float maximum = max_lanes16(largest);
  Chains chains;
  for (int64_t i = 0; i < vocab; i += 16) {
    chains.add(exp16_keep_nan(sub16(load_row(logits + i, vocab - i), set16(maximum))));
  }
  return {maximum, chains.sum()};
}

void softmax_gradient_row(const float* logits, int64_t vocab, RowSum row, float scale, float* out) {
  const F32x16 factor = set16(static_cast<float>(static_cast<double>(scale) / row.sum));
  for (int64_t i = 0; i < vocab; i += 16) {
    const F32x16 shifted = sub16(load_row(logits + i, vocab - i), set16(row.largest));
    store_partial16(out + i, mul16(exp16_keep_nan(shifted), factor), vocab - i);
  }
}

}  // namespace mole::kernels::MOLE_ISA
