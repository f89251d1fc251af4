#include "kernels/torch/balance.h"

#include <algorithm>
#include <numeric>

namespace mole::kernels {

namespace {

/// Adds one to count[i] for each of the `top_k` largest scores.
void count_largest(const float* scores, int32_t top_k, std::vector<int32_t>& order,
                   std::vector<double>& count) {
  std::iota(order.begin(), order.end(), 0);
  std::partial_sort(order.begin(), order.begin() + top_k, order.end(), [&](int32_t a, int32_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  });
  for (int32_t j = 0; j < top_k; ++j)
    count[static_cast<size_t>(order[static_cast<size_t>(j)])] += 1;
}

double row_sum(const float* scores, int32_t num_experts) {
  double sum = 0;
  for (int32_t i = 0; i < num_experts; ++i) sum += scores[i];
  return sum;
}

/// d/ds[t, i] of sum_j f_j s[t, j] / (T sum_k s[t, k]) = (f_i - sum_j f_j s'[t, j]) / (T sum).
void row_gradient(const float* scores, const std::vector<double>& f, double factor, float* out) {
  const int32_t num_experts = static_cast<int32_t>(f.size());
  const double sum = row_sum(scores, num_experts);
  double mean = 0;
  for (size_t i = 0; i < f.size(); ++i) mean += f[i] * scores[i] / sum;
  for (size_t i = 0; i < f.size(); ++i) out[i] = static_cast<float>(factor * (f[i] - mean) / sum);
}

}  // namespace

double balance_loss(const BalanceArgs& args) {
  const int32_t experts = args.num_experts;
  const size_t num_experts = static_cast<size_t>(experts);
  const std::vector<int32_t>& starts = *args.starts;
  std::vector<int32_t> order(num_experts);
  double total = 0;
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    const int32_t tokens = starts[s + 1] - starts[s];
    if (tokens == 0) continue;
    std::vector<double> f(num_experts, 0.0), p(num_experts, 0.0);
    for (int32_t t = starts[s]; t < starts[s + 1]; ++t) {
      const float* row = args.scores + static_cast<int64_t>(t) * experts;
      count_largest(row, args.top_k, order, f);
      const double sum = row_sum(row, experts);
      for (size_t i = 0; i < num_experts; ++i) p[i] += row[i] / sum;
    }
    for (size_t i = 0; i < num_experts; ++i) {
      f[i] *= experts / (static_cast<double>(args.top_k) * tokens);
      total += f[i] * p[i] / tokens;
    }
    if (args.dscores == nullptr) continue;
    for (int32_t t = starts[s]; t < starts[s + 1]; ++t) {
      const int64_t row = static_cast<int64_t>(t) * experts;
      row_gradient(args.scores + row, f, args.scale / tokens, args.dscores + row);
    }
  }
  return total;
}

}  // namespace mole::kernels
