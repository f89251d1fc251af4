#include <algorithm>
#include <cmath>

#include "kernels/cross_entropy/cross_entropy.h"

namespace mole::kernels {

void row_logsumexp_ref(const double* logits, int64_t rows, int64_t vocab, double* logsumexp) {
  for (int64_t r = 0; r < rows; ++r) {
    const double* row = logits + r * vocab;
    const double largest = *std::max_element(row, row + vocab);
    double sum = 0;
    for (int64_t i = 0; i < vocab; ++i) sum += std::exp(row[i] - largest);
    logsumexp[r] = largest + std::log(sum);
  }
}

void cross_entropy_ref(const double* logits, const TokenId* targets, int64_t rows, int64_t vocab,
                       double dloss_scale, double* log_probs, double* dlogits) {
  for (int64_t r = 0; r < rows; ++r) {
    const double* row = logits + r * vocab;
    double logsumexp = 0;
    row_logsumexp_ref(row, 1, vocab, &logsumexp);
    const bool counted = targets[r] >= 0;
    log_probs[r] = counted ? row[targets[r]] - logsumexp : 0.0;
    for (int64_t i = 0; i < vocab; ++i) {
      const double onehot = i == targets[r] ? 1.0 : 0.0;
      dlogits[r * vocab + i] =
          counted ? (std::exp(row[i] - logsumexp) - onehot) * dloss_scale : 0.0;
    }
  }
}

}  // namespace mole::kernels
