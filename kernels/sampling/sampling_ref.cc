#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/sampling/sampling.h"

namespace mole::kernels {

void block_maxima_ref(const double* logits, int64_t vocab, double* maxima) {
  for (int64_t block = 0; block < vocab_blocks(vocab); ++block) {
    const int64_t end = std::min(vocab, (block + 1) * kVocabBlock);
    maxima[block] = *std::max_element(logits + block * kVocabBlock, logits + end);
  }
}

void sampling_weights_ref(const double* logits, int64_t vocab, double temperature, double least,
                          double* weights, double* sums) {
  const double largest = vocab == 0 ? 0 : *std::max_element(logits, logits + vocab);
  std::fill(sums, sums + vocab_blocks(vocab), 0.0);
  for (int64_t id = 0; id < vocab; ++id) {
    weights[id] = std::exp((logits[id] - largest) / temperature);
    if (weights[id] >= least) sums[id / kVocabBlock] += weights[id];
  }
}

}  // namespace mole::kernels
