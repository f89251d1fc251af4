// Chooses the next token from a row of logits. A pure function of its arguments: the same row, the
// same request and the same position give the same token in any batch, at any time.
//
// Order: logit_bias, penalties, temperature, top_k, top_p, min_p, then one draw of Philox under
// (seed; position, stream). Weights are exp((x - max) / temperature) in double, summed in the order
// of the candidates (ids ascending without top_k and top_p, else largest first).
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
  void choose_candidates(std::span<const float> logits, float largest,
                         const SamplingParams& params);
  void choose_nucleus(std::span<const float> logits, float largest, const SamplingParams& params);
  double weigh_all(std::span<const float> logits, float largest, double temperature);
  void keep_top_p(double top_p, double total);
  void keep_min_p(double min_p);

  std::vector<float> adjusted_;      // [vocab_size]
  std::vector<TokenId> candidates_;  // what the filters left
  std::vector<double> weights_;      // of candidates_; the largest logit has weight 1
  std::vector<double> all_weights_;  // [vocab_size]
  std::vector<double> bucket_sums_;  // of all_weights_, the largest weights first
};

}  // namespace mole::runtime
