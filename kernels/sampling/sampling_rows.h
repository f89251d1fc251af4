// The parts of sampling that are compiled once per instruction set; sampling.cc chooses.
#pragma once

#include "kernels/sampling/sampling.h"

namespace mole::kernels::avx2 {
bool block_maxima(const float* logits, int64_t vocab, float* maxima);
void sampling_weights(const float* logits, int64_t vocab, float largest, float rate, float* weights,
                      float* sums);
float sampling_weight(float logit, float largest, float rate);
int64_t sums_at_least(const float* weights, int64_t vocab, float least, float* sums);
/// Returns how many there are, and writes them unless `ids` is null.
int64_t ids_between(const float* values, int64_t vocab, float least, float below, TokenId* ids);
}  // namespace mole::kernels::avx2
namespace mole::kernels::avx512 {
bool block_maxima(const float* logits, int64_t vocab, float* maxima);
void sampling_weights(const float* logits, int64_t vocab, float largest, float rate, float* weights,
                      float* sums);
float sampling_weight(float logit, float largest, float rate);
int64_t sums_at_least(const float* weights, int64_t vocab, float least, float* sums);
int64_t ids_between(const float* values, int64_t vocab, float least, float below, TokenId* ids);
}  // namespace mole::kernels::avx512
