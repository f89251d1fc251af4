#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/philox.h"
#include "runtime/select_largest.h"

namespace mole::runtime {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// First guess of how many tokens a nucleus holds, and how the guess grows.
constexpr size_t kNucleusGuess = 64;
constexpr size_t kNucleusGrowth = 8;

struct RowLook {
  TokenId argmax = -1;  // lowest id of the largest value; -1 = no value above -inf
  bool broken = false;  // NaN or +inf somewhere
};

RowLook look_at(std::span<const float> row) {
  RowLook look;
  float largest = -kInfinity;
  for (size_t id = 0; id < row.size(); ++id) {
    look.broken |= !(row[id] < kInfinity);
    if (row[id] > largest) {
      largest = row[id];
      look.argmax = static_cast<TokenId>(id);
    }
  }
  return look;
}

double weight_of(float logit, float largest, double temperature) {
  return std::exp((static_cast<double>(logit) - static_cast<double>(largest)) / temperature);
}

// Where the running sum of `weights` passes u times their total.
size_t draw(std::span<const double> weights, double total, double u) {
  const double target = u * total;
  double sum = 0;
  size_t last = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] == 0) continue;
    sum += weights[i];
    last = i;
    if (sum > target) break;
  }
  return last;
}

double sum_of(std::span<const double> values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

Sampler::Sampler(int32_t vocab_size) {
  adjusted_.reserve(static_cast<size_t>(vocab_size));
  candidates_.reserve(static_cast<size_t>(vocab_size));
  weights_.reserve(static_cast<size_t>(vocab_size));
  all_weights_.reserve(static_cast<size_t>(vocab_size));
}

StatusOr<TokenId> Sampler::sample(std::span<const float> logits, const SampleContext& context) {
  const SamplingParams& params = *context.params;
  const RowLook raw = look_at(logits);
  if (raw.broken) return absl::InternalError("the model's logits hold a NaN or an infinity");
  const std::span<const float> row = adjust(logits, context);
  const TokenId argmax = row.data() == logits.data() ? raw.argmax : look_at(row).argmax;
  if (argmax < 0) return absl::InternalError("no token has a finite logit");
  if (params.temperature == 0) return argmax;

  const float largest = row[static_cast<size_t>(argmax)];
  const double u = philox_uniform(context.seed, context.position, context.stream);
  const bool unfiltered = params.top_k == 0 && params.top_p >= 1 && params.min_p <= 0;
  if (unfiltered) {
    const double total = weigh_all(row, largest, params.temperature);
    return static_cast<TokenId>(draw(all_weights_, total, u));
  }
  choose_candidates(row, largest, params);
  return candidates_[draw(weights_, sum_of(weights_), u)];
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

void Sampler::choose_candidates(std::span<const float> logits, float largest,
                                const SamplingParams& params) {
  const size_t top_k = static_cast<size_t>(params.top_k);
  if (top_k > 0 && top_k < logits.size()) {
    select_largest(logits, top_k, &candidates_);
    weights_.clear();
    for (const TokenId id : candidates_) {
      weights_.push_back(weight_of(logits[static_cast<size_t>(id)], largest, params.temperature));
    }
    keep_top_p(params.top_p, sum_of(weights_));
  } else if (params.top_p < 1) {
    choose_nucleus(logits, largest, params);
  } else {
    weigh_all(logits, largest, params.temperature);
    weights_ = all_weights_;
    candidates_.resize(logits.size());
    std::iota(candidates_.begin(), candidates_.end(), 0);
  }
  keep_min_p(params.min_p);
}

// The nucleus is small when the model is sure: sort only as many of the largest as it needs.
void Sampler::choose_nucleus(std::span<const float> logits, float largest,
                             const SamplingParams& params) {
  const double total = weigh_all(logits, largest, params.temperature);
  for (size_t guess = kNucleusGuess;; guess *= kNucleusGrowth) {
    select_largest(logits, guess, &candidates_);
    weights_.clear();
    for (const TokenId id : candidates_) weights_.push_back(all_weights_[static_cast<size_t>(id)]);
    if (candidates_.size() == logits.size() || sum_of(weights_) >= params.top_p * total) break;
  }
  keep_top_p(params.top_p, total);
}

double Sampler::weigh_all(std::span<const float> logits, float largest, double temperature) {
  all_weights_.clear();
  double total = 0;
  for (const float logit : logits) {
    all_weights_.push_back(weight_of(logit, largest, temperature));
    total += all_weights_.back();
  }
  return total;
}

// Keeps the fewest of the largest whose weights reach top_p of `total`.
void Sampler::keep_top_p(double top_p, double total) {
  if (top_p >= 1) return;
  double sum = 0;
  size_t kept = 0;
  while (kept < weights_.size() && sum < top_p * total) sum += weights_[kept++];
  kept = std::max<size_t>(kept, 1);
  weights_.resize(kept);
  candidates_.resize(kept);
}

// The largest weight is 1, so a weight is its probability relative to the largest.
void Sampler::keep_min_p(double min_p) {
  if (min_p <= 0) return;
  size_t kept = 0;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] < min_p) continue;
    weights_[kept] = weights_[i];
    candidates_[kept++] = candidates_[i];
  }
  weights_.resize(kept);
  candidates_.resize(kept);
}

}  // namespace mole::runtime
