#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>

#include "base/philox.h"
#include "runtime/select_largest.h"

namespace mole::runtime {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Weights lie in [0, 1]. For the nucleus they fall into buckets, 16 to each power of two, the
// largest first; what is below 2^-64 falls into the last.
constexpr int kBucketShift = 52 - 4;
constexpr size_t kBuckets = 64 * 16 + 1;

size_t bucket_of(double weight) {
  const uint64_t below_one = std::bit_cast<uint64_t>(1.0) - std::bit_cast<uint64_t>(weight);
  return std::min<size_t>(below_one >> kBucketShift, kBuckets - 1);
}

struct RowLook {
  TokenId argmax = -1;  // lowest id of the largest value; -1 = no value above -inf
  bool broken = false;  // NaN or +inf somewhere
};

// In lanes that the compiler turns into vector registers.
RowLook look_at(std::span<const float> row) {
  constexpr size_t kLanes = 16;
  float largest[kLanes];
  int32_t broken[kLanes] = {};
  std::fill(largest, largest + kLanes, -kInfinity);
  const size_t whole = row.size() / kLanes * kLanes;
  for (size_t id = 0; id < whole; id += kLanes) {
    for (size_t lane = 0; lane < kLanes; ++lane) {
      const float value = row[id + lane];
      largest[lane] = value > largest[lane] ? value : largest[lane];
      broken[lane] |= value < kInfinity ? 0 : 1;  // a NaN is not below anything
    }
  }
  RowLook look;
  for (size_t id = whole; id < row.size(); ++id) {
    largest[0] = std::max(largest[0], row[id]);
    look.broken |= !(row[id] < kInfinity);
  }
  look.broken |= std::any_of(broken, broken + kLanes, [](int32_t lane) { return lane != 0; });
  const float most = *std::max_element(largest, largest + kLanes);
  if (look.broken || most == -kInfinity) return look;
  look.argmax = static_cast<TokenId>(std::find(row.begin(), row.end(), most) - row.begin());
  return look;
}

// exp(x) for x <= 0, without branches so that a loop over it is vectorised; a weight that can't
// matter (x < -700) is 0. Relative error below 1e-14: Taylor's series to degree 11 on [-ln 2 / 2,
// ln 2 / 2].
double exp_not_positive(double x) {
  constexpr double kLog2E = 1.4426950408889634074;
  constexpr double kLn2High = 0x1.62e42fefp-1, kLn2Low = 0x1.473de6af278edp-34;
  constexpr double kRound = 0x1.8p52;  // adding it leaves an integer in the low bits
  const double bounded = x < -700.0 ? -700.0 : x;
  const double shifted = bounded * kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (bounded - n * kLn2High) - n * kLn2Low;
  // Written out: the vectoriser gives up on a loop in the loop.
  double sum = 1.0 / 39916800;
  sum = sum * r + 1.0 / 3628800;
  sum = sum * r + 1.0 / 362880;
  sum = sum * r + 1.0 / 40320;
  sum = sum * r + 1.0 / 5040;
  sum = sum * r + 1.0 / 720;
  sum = sum * r + 1.0 / 120;
  sum = sum * r + 1.0 / 24;
  sum = sum * r + 1.0 / 6;
  sum = sum * r + 1.0 / 2;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  const uint64_t exponent = std::bit_cast<uint64_t>(shifted) << 52;
  const double scaled = std::bit_cast<double>(std::bit_cast<uint64_t>(sum) + exponent);
  return x < -700.0 ? 0.0 : scaled;
}

double weight_of(float logit, float largest, double temperature) {
  return exp_not_positive((static_cast<double>(logit) - static_cast<double>(largest)) /
                          temperature);
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
  bucket_sums_.reserve(kBuckets);
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

// Only the tokens that the nucleus needs are sorted: sums by bucket tell how far down it reaches.
void Sampler::choose_nucleus(std::span<const float> logits, float largest,
                             const SamplingParams& params) {
  const double total = weigh_all(logits, largest, params.temperature);
  bucket_sums_.assign(kBuckets, 0.0);
  for (const double weight : all_weights_) bucket_sums_[bucket_of(weight)] += weight;
  size_t last = 0;
  for (double sum = bucket_sums_[0]; sum < params.top_p * total && last + 1 < kBuckets;) {
    sum += bucket_sums_[++last];
  }
  candidates_.clear();
  for (size_t id = 0; id < logits.size(); ++id) {
    if (bucket_of(all_weights_[id]) <= last) candidates_.push_back(static_cast<TokenId>(id));
  }
  std::sort(candidates_.begin(), candidates_.end(), [logits](TokenId a, TokenId b) {
    const float value_a = logits[static_cast<size_t>(a)], value_b = logits[static_cast<size_t>(b)];
    return value_a > value_b || (value_a == value_b && a < b);
  });
  weights_.clear();
  for (const TokenId id : candidates_) weights_.push_back(all_weights_[static_cast<size_t>(id)]);
  keep_top_p(params.top_p, total);
}

double Sampler::weigh_all(std::span<const float> logits, float largest, double temperature) {
  all_weights_.resize(logits.size());
  double* const weights = all_weights_.data();
  for (size_t id = 0; id < logits.size(); ++id) {
    weights[id] = weight_of(logits[id], largest, temperature);
  }
  return sum_of(all_weights_);
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
