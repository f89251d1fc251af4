#include "kernels/sampling/sampling.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/sampling/sampling_rows.h"

namespace mole::kernels {
namespace {

// A temperature so small that its inverse is no number is as good as this one: 0 times it is 0.
constexpr double kRateMax = 1e30;

float rate_of(double temperature) {
  MOLE_CHECK(temperature > 0);
  return static_cast<float>(std::min(1 / temperature, kRateMax));
}

}  // namespace

bool block_maxima(const float* logits, int64_t vocab, float* maxima) {
  return isa() == Isa::kAvx2 ? avx2::block_maxima(logits, vocab, maxima)
                             : avx512::block_maxima(logits, vocab, maxima);
}

void sampling_weights(const float* logits, int64_t vocab, float largest, double temperature,
                      float* weights, float* sums) {
  const float rate = rate_of(temperature);
  isa() == Isa::kAvx2 ? avx2::sampling_weights(logits, vocab, largest, rate, weights, sums)
                      : avx512::sampling_weights(logits, vocab, largest, rate, weights, sums);
}

float sampling_weight(float logit, float largest, double temperature) {
  const float rate = rate_of(temperature);
  return isa() == Isa::kAvx2 ? avx2::sampling_weight(logit, largest, rate)
                             : avx512::sampling_weight(logit, largest, rate);
}

int64_t sums_at_least(const float* weights, int64_t vocab, float least, float* sums) {
  return isa() == Isa::kAvx2 ? avx2::sums_at_least(weights, vocab, least, sums)
                             : avx512::sums_at_least(weights, vocab, least, sums);
}

void ids_between(const float* values, int64_t vocab, float least, float below,
                 std::vector<TokenId>* ids) {
  // Counted first: making room for all of them would cost more than the second pass.
  const auto pass = isa() == Isa::kAvx2 ? avx2::ids_between : avx512::ids_between;
  ids->resize(static_cast<size_t>(pass(values, vocab, least, below, nullptr)));
  pass(values, vocab, least, below, ids->data());
}

}  // namespace mole::kernels
