// Passes over a row of logits that choose a token: what costs time in sampling, one row at a time.
// A vocabulary is seen in blocks of kVocabBlock ids; what a block can't hold need not be looked at.
//
// Numerics: float32. A weight is exp((x - largest) * (1 / temperature)), the product rounded twice,
// by the exponential of kernels/cpu/exp.h; 0 where the argument is below kLeastExponent. The sum of
// a block: 16 interleaved chains over ascending ids, added pairwise (sum_lanes16). Bits depend on
// the row alone.
//
// Thread: any; every function works in the calling thread on memory of the caller's.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace mole::kernels {

inline constexpr int64_t kVocabBlock = 512;
/// exp(-87) = 2^-125.5 is the last that is no denormal number: rows are also seen by threads that
/// don't flush them. 2^-125 of the largest weight is never drawn.
inline constexpr float kLeastExponent = -87.0f;

inline int64_t vocab_blocks(int64_t vocab) { return (vocab + kVocabBlock - 1) / kVocabBlock; }

/// The largest logit of each block, maxima [vocab_blocks(vocab)]. False, and `maxima` unspecified,
/// if a logit is NaN or +infinity; -infinity is a token that can't come.
bool block_maxima(const float* logits, int64_t vocab, float* maxima);

/// weights [vocab] relative to the one of `largest`, which must not be -infinity, and the sum of
/// each block, sums [vocab_blocks(vocab)]. No NaN or +infinity in `logits`. 0 < temperature.
void sampling_weights(const float* logits, int64_t vocab, float largest, double temperature,
                      float* weights, float* sums);
/// One of them, the same bits.
float sampling_weight(float logit, float largest, double temperature);

/// The sum of each block's weights that are at least `least`; returns how many there are in all.
int64_t sums_at_least(const float* weights, int64_t vocab, float least, float* sums);

/// The ids of least <= value < below, ascending.
void ids_between(const float* values, int64_t vocab, float least, float below,
                 std::vector<TokenId>* ids);

/// The same in float64: maxima as above, weights and their sums, of those at least `least`.
void block_maxima_ref(const double* logits, int64_t vocab, double* maxima);
void sampling_weights_ref(const double* logits, int64_t vocab, double temperature, double least,
                          double* weights, double* sums);

}  // namespace mole::kernels
