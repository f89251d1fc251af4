#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "base/philox.h"
#include "kernels/sampling/sampling.h"
#include "runtime/select_largest.h"

namespace mole::runtime {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The nucleus is cut down to so many tokens by counting before they are sorted.
constexpr int64_t kSortMax = 256;

double sum_of(std::span<const float> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

// The least that a sum must reach to be a share of `total`: more than nothing, so that the largest
// token is always kept.
double share_of(double total, double share) {
  return std::max(total * share, std::numeric_limits<double>::min());
}

}  // namespace

Sampler::Sampler(int32_t vocab_size)
    : maxima_(static_cast<size_t>(kernels::vocab_blocks(vocab_size))),
      weights_(static_cast<size_t>(vocab_size)),
      sums_(maxima_.size()) {
  adjusted_.reserve(static_cast<size_t>(vocab_size));
  candidates_.reserve(static_cast<size_t>(vocab_size));
}

StatusOr<TokenId> Sampler::sample(std::span<const float> logits, const SampleContext& context) {
  const SamplingParams& params = *context.params;
  const auto vocab = static_cast<int64_t>(logits.size());
  if (!kernels::block_maxima(logits.data(), vocab, maxima_.data())) {
    return absl::InternalError("the model's logits hold a NaN or an infinity");
  }
  const std::span<const float> row = adjust(logits, context);
  if (row.data() != logits.data()) kernels::block_maxima(row.data(), vocab, maxima_.data());
  const auto largest = std::max_element(maxima_.begin(), maxima_.end());
  if (*largest == -kInfinity) return absl::InternalError("no token has a finite logit");
  if (params.temperature == 0) {
    const auto block = row.subspan(static_cast<size_t>(largest - maxima_.begin()) *
                                   static_cast<size_t>(kernels::kVocabBlock));
    return static_cast<TokenId>(&*std::find(block.begin(), block.end(), *largest) - row.data());
  }
  const double u = philox_uniform(context.seed, context.position, context.stream);
  return 0 < params.top_k && params.top_k < vocab ? draw_from_largest(row, *largest, params, u)
                                                  : draw_from_all(row, *largest, params, u);
}

std::span<const float> Sampler::adjust(std::span<const float> logits,
                                       const SampleContext& context) {
  const SamplingParams& params = *context.params;
  const bool counted = context.counts != nullptr && context.counts->enabled();
  if (params.logit_bias.empty() && !counted && context.forbidden.empty() &&
      context.also_forbidden.empty()) {
    return logits;
  }
  adjusted_.assign(logits.begin(), logits.end());
  for (const auto& [token, bias] : params.logit_bias) adjusted_[static_cast<size_t>(token)] += bias;
  if (counted) {
    for (const TokenId token : context.counts->seen()) {
      double logit = adjusted_[static_cast<size_t>(token)];
      logit = logit > 0 ? logit / params.repetition_penalty : logit * params.repetition_penalty;
      const int32_t generated = context.counts->generated(token);
      if (generated > 0) logit -= params.presence_penalty + params.frequency_penalty * generated;
      adjusted_[static_cast<size_t>(token)] = static_cast<float>(logit);
    }
  }
  for (const TokenId token : context.forbidden) adjusted_[static_cast<size_t>(token)] = -kInfinity;
  for (const TokenId token : context.also_forbidden) {
    adjusted_[static_cast<size_t>(token)] = -kInfinity;
  }
  return adjusted_;
}

// With top_k: the candidates are few, and sorted.
TokenId Sampler::draw_from_largest(std::span<const float> logits, float largest,
                                   const SamplingParams& params, double u) {
  select_largest(logits, maxima_, static_cast<size_t>(params.top_k), &candidates_);
  const std::span<float> weights(weights_.data(), candidates_.size());
  for (size_t i = 0; i < weights.size(); ++i) {
    weights[i] = kernels::sampling_weight(logits[static_cast<size_t>(candidates_[i])], largest,
                                          params.temperature);
  }
  // The largest weight is 1, so a weight is its probability relative to the largest.
  size_t kept = weights.size();
  if (params.top_p < 1) {
    const double wanted = share_of(sum_of(weights), params.top_p);
    double sum = 0;
    for (kept = 0; kept < weights.size() && sum < wanted;) sum += weights[kept++];
  }
  while (kept > 1 && (weights[kept - 1] < params.min_p || weights[kept - 1] == 0)) --kept;
  const double target = u * sum_of(weights.first(kept));
  double sum = 0;
  size_t i = 0;
  while (i + 1 < kept && (sum += weights[i]) <= target) ++i;
  return candidates_[i];
}

TokenId Sampler::draw_from_all(std::span<const float> logits, float largest,
                               const SamplingParams& params, double u) {
  const auto vocab = static_cast<int64_t>(logits.size());
  kernels::sampling_weights(logits.data(), vocab, largest, params.temperature, weights_.data(),
                            sums_.data());
  const float nucleus = params.top_p < 1 ? cut_nucleus(params.top_p) : 0.0f;
  const float least = std::max(nucleus, static_cast<float>(params.min_p));
  if (least > 0) kernels::sums_at_least(weights_.data(), vocab, least, sums_.data());
  return draw(least, u);
}

// Keeps the fewest of the largest weights whose sum reaches top_p of the total, ties by lower id;
// returns the least of them. Of the others, those that are as large become 0. Weights are not
// negative, so the order of their bits is theirs: the limit is looked for by halving, then only
// what lies next to it is sorted.
float Sampler::cut_nucleus(double top_p) {
  const auto vocab = static_cast<int64_t>(weights_.size());
  const double wanted = share_of(sum_of(sums_), top_p);
  uint32_t low = 0, high = std::bit_cast<uint32_t>(1.0f) + 1;  // from `high` on: not enough
  int64_t num_low = vocab, num_high = 0;                       // weights from there on
  double sum_high = 0;
  while (high - low > 1 && num_low - num_high > kSortMax) {
    const uint32_t middle = low + (high - low) / 2;
    const int64_t count =
        kernels::sums_at_least(weights_.data(), vocab, std::bit_cast<float>(middle), sums_.data());
    const double sum = sum_of(sums_);
    if (sum >= wanted) {
      low = middle;
      num_low = count;
    } else {
      high = middle;
      num_high = count;
      sum_high = sum;
    }
  }
  kernels::ids_between(weights_.data(), vocab, std::bit_cast<float>(low),
                       std::bit_cast<float>(high), &candidates_);
  if (high - low > 1) {
    std::sort(candidates_.begin(), candidates_.end(), [this](TokenId a, TokenId b) {
      const float weight_a = weights_[static_cast<size_t>(a)];
      const float weight_b = weights_[static_cast<size_t>(b)];
      return weight_a > weight_b || (weight_a == weight_b && a < b);
    });
  }
  float least = std::bit_cast<float>(low);
  size_t kept = 0;
  for (double sum = sum_high; kept < candidates_.size() && sum < wanted; ++kept) {
    least = weights_[static_cast<size_t>(candidates_[kept])];
    sum += least;
  }
  for (; kept < candidates_.size(); ++kept) weights_[static_cast<size_t>(candidates_[kept])] = 0;
  return least;
}

// Where the running sum of the weights from `least` on passes u times their total.
TokenId Sampler::draw(float least, double u) const {
  const double target = u * sum_of(sums_);
  double sum = 0, before = 0;
  size_t chosen = 0;
  for (size_t block = 0; block < sums_.size() && sum <= target; ++block) {
    if (sums_[block] == 0) continue;
    chosen = block;
    before = sum;
    sum += sums_[block];
  }
  const size_t begin = chosen * static_cast<size_t>(kernels::kVocabBlock);
  const size_t end = std::min(weights_.size(), begin + static_cast<size_t>(kernels::kVocabBlock));
  size_t last = begin;  // of those that can be drawn: a block's own sum is rounded otherwise
  for (size_t id = begin; id < end && before <= target; ++id) {
    if (weights_[id] < least || weights_[id] == 0) continue;
    before += weights_[id];
    last = id;
  }
  return static_cast<TokenId>(last);
}

}  // namespace mole::runtime
