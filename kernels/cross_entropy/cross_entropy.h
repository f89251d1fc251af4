// log_softmax of rows of logits and what training and scoring need of it.
// Numerics: float32 logits; maximum, then sum of exp(x - max) (kernels/cpu/exp.h, float32) in
// double over ascending ids in 16 interleaved chains added pairwise (as rms_norm); log in double;
// log-probability = x - (max + log(sum)) in double, rounded to float32. The server's
// log-probabilities are these same bits. A logit of -infinity is a token that can't come. NaN,
// +infinity, or -infinity everywhere give NaN.
#pragma once

#include <cstdint>

#include "base/ids.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

/// logsumexp[r] of logits [rows, vocab] (row stride in elements), as a double.
void row_logsumexp(const float* logits, int64_t rows, int64_t vocab, int64_t stride,
                   double* logsumexp, ThreadTeam& team);

/// The log-probability of one logit under its row's logsumexp. The only way it is computed
/// anywhere.
inline float log_probability(float logit, double logsumexp) {
  return static_cast<float>(static_cast<double>(logit) - logsumexp);
}

struct CrossEntropyArgs {
  const float* logits = nullptr;     // [rows, vocab] contiguous
  const TokenId* targets = nullptr;  // [rows]; -1 = not counted
  int64_t rows = 0, vocab = 0;
  float* log_probs = nullptr;  // [rows]: log-probability of the target, 0 where not counted
  float* dlogits = nullptr;    // [rows, vocab]: (softmax - onehot) * dloss_scale, 0 rows where
                               // not counted; may equal `logits`' memory; or null
  float dloss_scale = 1.0f;    // for example 1 / counted tokens of the whole global batch
};
void cross_entropy(const CrossEntropyArgs& args, ThreadTeam& team);

/// The same in float64 throughout.
void row_logsumexp_ref(const double* logits, int64_t rows, int64_t vocab, double* logsumexp);
void cross_entropy_ref(const double* logits, const TokenId* targets, int64_t rows, int64_t vocab,
                       double dloss_scale, double* log_probs, double* dlogits);

}  // namespace mole::kernels
