// The parts of cross_entropy that are compiled once per instruction set; cross_entropy.cc chooses.
#pragma once

#include "kernels/cross_entropy/cross_entropy.h"

namespace mole::kernels {

/// Maximum of a row of logits and the sum of exp(x - maximum).
struct RowSum {
  float largest;
  double sum;
};

}  // namespace mole::kernels

namespace mole::kernels::avx2 {
RowSum row_sum(const float* logits, int64_t vocab);
void softmax_gradient_row(const float* logits, int64_t vocab, RowSum row, float scale, float* out);
}  // namespace mole::kernels::avx2
namespace mole::kernels::avx512 {
RowSum row_sum(const float* logits, int64_t vocab);
/// out = exp(x - maximum) / sum * scale; out may equal logits.
void softmax_gradient_row(const float* logits, int64_t vocab, RowSum row, float scale, float* out);
}  // namespace mole::kernels::avx512
