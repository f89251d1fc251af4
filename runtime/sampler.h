// Chooses the next token from a row of logits. A pure function of its arguments: the same row, the
// same request and the same position give the same token in any batch, at any time.
//
// Order: logit_bias, penalties, temperature, top_k, top_p, min_p, then one draw of Philox under
// (seed; position, stream). Weights and their sums are those of kernels/sampling/sampling.h; what
// is drawn from lies in the order of the ids without top_k, else largest first.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "runtime/request.h"
#include "runtime/token_counts.h"

namespace mole::runtime {

/// What the choice depends on beside the logits.
struct SampleContext {
  const SamplingParams* params = nullptr;
  const TokenCounts* counts = nullptr;  // used if a penalty is set
  uint64_t seed = 0;
  uint64_t stream = 0;                      // which of the n sequences
  uint64_t position = 0;                    // of the token that is drawn
  std::span<const TokenId> forbidden;       // never chosen (min_tokens), and
  std::span<const TokenId> also_forbidden;  // neither are these
};

/// Holds scratch memory only. Thread: one at a time.
class Sampler {
 public:
  explicit Sampler(int32_t vocab_size);

  /// `logits` [vocab_size] float32.
  /// Errors: kInternal if the row holds a NaN or +inf, or no finite value.
  StatusOr<TokenId> sample(std::span<const float> logits, const SampleContext& context);

 private:
  std::span<const float> adjust(std::span<const float> logits, const SampleContext& context);
  TokenId draw_from_largest(std::span<const float> logits, float largest,
                            const SamplingParams& params, double u);
  TokenId draw_from_all(std::span<const float> logits, float largest, const SamplingParams& params,
                        double u);
  float cut_nucleus(double top_p);
  TokenId draw(float least, double u) const;

  std::vector<float> adjusted_;      // [vocab_size]
  std::vector<float> maxima_;        // of the row, [blocks]
  std::vector<float> weights_;       // [vocab_size]
  std::vector<float> sums_;          // of weights_, [blocks]
  std::vector<TokenId> candidates_;  // a few of the row
};

}  // namespace mole::runtime
