#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "kernels/router/router.h"

namespace mole::kernels {
namespace {

void score_row(const RouterConfig& config, const double* logits, double* scores) {
  const int32_t experts = config.num_experts;
  if (config.score == RouterScore::kSigmoid) {
    for (int32_t e = 0; e < experts; ++e) scores[e] = 1.0 / (1.0 + std::exp(-logits[e]));
    return;
  }
  const double largest = *std::max_element(logits, logits + experts);
  double sum = 0;
  for (int32_t e = 0; e < experts; ++e) sum += std::exp(logits[e] - largest);
  for (int32_t e = 0; e < experts; ++e) scores[e] = std::exp(logits[e] - largest) / sum;
}

/// The `count` largest of `values`, ties to the lower index, in descending order.
std::vector<int32_t> largest(const std::vector<double>& values, int32_t count) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

double group_score(const RouterConfig& config, const double* choice, int32_t size) {
  std::vector<double> sorted(choice, choice + size);
  std::sort(sorted.rbegin(), sorted.rend());
  return config.group_score == RouterGroupScore::kGroupMax ? sorted[0] : sorted[0] + sorted[1];
}

/// Leaves only experts of the best groups: the others become -infinity.
void limit_groups(const RouterConfig& config, std::vector<double>& choice) {
  if (config.num_groups == 1) return;
  const int32_t size = config.num_experts / config.num_groups;
  std::vector<double> groups;
  for (int32_t g = 0; g < config.num_groups; ++g) {
    groups.push_back(group_score(config, choice.data() + g * size, size));
  }
  std::vector<bool> open(groups.size(), false);
  for (int32_t g : largest(groups, config.topk_groups)) open[static_cast<size_t>(g)] = true;
  for (size_t e = 0; e < choice.size(); ++e) {
    if (!open[e / static_cast<size_t>(size)]) choice[e] = -std::numeric_limits<double>::infinity();
  }
}

}  // namespace

void router_weights_ref(const RouterConfig& config, const double* logits, const int32_t* expert_ids,
                        int64_t tokens, double* weights, double* scores) {
  for (int64_t t = 0; t < tokens; ++t) {
    double* row = scores + t * config.num_experts;
    score_row(config, logits + t * config.num_experts, row);
    double sum = 1e-20;
    for (int32_t k = 0; k < config.top_k; ++k) sum += row[expert_ids[t * config.top_k + k]];
    for (int32_t k = 0; k < config.top_k; ++k) {
      const double score = row[expert_ids[t * config.top_k + k]];
      weights[t * config.top_k + k] = (config.normalize ? score / sum : score) * config.scale;
    }
  }
}

void router_ref(const RouterConfig& config, const double* logits, const double* correction_bias,
                int64_t tokens, int32_t* expert_ids, double* weights, double* scores) {
  for (int64_t t = 0; t < tokens; ++t) {
    double* row = scores + t * config.num_experts;
    score_row(config, logits + t * config.num_experts, row);
    std::vector<double> choice(row, row + config.num_experts);
    for (size_t e = 0; e < choice.size() && correction_bias != nullptr; ++e) {
      choice[e] += correction_bias[e];
    }
    limit_groups(config, choice);
    const std::vector<int32_t> chosen = largest(choice, config.top_k);
    std::copy(chosen.begin(), chosen.end(), expert_ids + t * config.top_k);
  }
  router_weights_ref(config, logits, expert_ids, tokens, weights, scores);
}

// w_k = scale s_k / S: dw_k/ds_j = scale (1[j = k] - s_k / S) / S over the chosen j; then through
// the score: softmax ds_e/dx_f = s_e (1[e = f] - s_f), sigmoid ds/dx = s (1 - s).
void router_backward_ref(const RouterConfig& config, const double* logits,
                         const int32_t* expert_ids, const double* dweights, const double* dscores,
                         int64_t tokens, double* dlogits) {
  const int32_t experts = config.num_experts, top_k = config.top_k;
  std::vector<double> scores(static_cast<size_t>(experts));
  for (int64_t t = 0; t < tokens; ++t) {
    score_row(config, logits + t * experts, scores.data());
    std::vector<double> ds(static_cast<size_t>(experts), 0.0);
    if (dscores != nullptr) std::copy_n(dscores + t * experts, experts, ds.begin());
    double sum = 1e-20, weighted = 0;
    for (int32_t k = 0; k < top_k; ++k) {
      const auto e = static_cast<size_t>(expert_ids[t * top_k + k]);
      sum += scores[e];
      weighted += dweights[t * top_k + k] * scores[e];
    }
    for (int32_t k = 0; k < top_k; ++k) {
      const double dweight = dweights[t * top_k + k];
      const double own = config.normalize ? (dweight - weighted / sum) / sum : dweight;
      ds[static_cast<size_t>(expert_ids[t * top_k + k])] += config.scale * own;
    }
    double mean = 0;
    for (size_t e = 0; e < ds.size(); ++e) mean += ds[e] * scores[e];
    for (size_t e = 0; e < ds.size(); ++e) {
      const bool softmax = config.score == RouterScore::kSoftmax;
      dlogits[t * experts + static_cast<int64_t>(e)] =
          scores[e] * (softmax ? ds[e] - mean : ds[e] * (1.0 - scores[e]));
    }
  }
}

}  // namespace mole::kernels
