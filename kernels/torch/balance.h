// The sequence-wise balance loss of DeepSeek-V3 (arXiv 2412.19437, eq. 17-20) and its gradient.
//   s'[t, i] = s[t, i] / sum_j s[t, j];  P[i] = mean over t of s'[t, i]
//   f[i] = E / (K T) * number of t with i among the K largest s[t, .];  loss = sum_i f[i] P[i]
// The K largest are those of the scores themselves: no correction bias, no groups, ties to the
// lower id. Numerics: double, tokens and experts in ascending order. Thread: any.
#pragma once

#include <cstdint>
#include <vector>

namespace mole::kernels {

struct BalanceArgs {
  const float* scores = nullptr;                 // [T, E], non-negative, each row's sum positive
  int32_t num_experts = 0;                       // E
  int32_t top_k = 0;                             // K
  const std::vector<int32_t>* starts = nullptr;  // [S+1] rows of the sequences
  double scale = 0;
  float* dscores = nullptr;  // [T, E]: scale * d loss / d scores; overwritten; or null
};

/// Sum over sequences of sum_i f_i P_i, without scale.
double balance_loss(const BalanceArgs& args);

}  // namespace mole::kernels
