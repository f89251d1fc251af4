#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/attention/attention.h"

namespace mole::kernels {
namespace {

/// Sizes of one sequence and the dot products that both directions need.
struct Plain {
  explicit Plain(const AttentionArgs& s)
      : heads(s.num_heads),
        kv_heads(s.num_kv_heads),
        group(s.num_heads / s.num_kv_heads),
        key(s.key_dim),
        shared(s.shared_dim),
        value(s.value_dim),
        first(s.first_position),
        scale(s.scale) {}

  double score(const double* q_row, const double* k, const double* k_shared, int64_t j,
               int64_t kv) const {
    double sum = 0;
    for (int64_t d = 0; d < key; ++d) sum += q_row[d] * k[(j * kv_heads + kv) * key + d];
    for (int64_t d = 0; d < shared; ++d) sum += q_row[key + d] * k_shared[j * shared + d];
    return sum * scale;
  }

  /// Softmax over keys 0 … position; returns logsumexp.
  double probabilities(const double* q_row, const double* k, const double* k_shared, int64_t t,
                       int64_t kv, std::vector<double>& p) const {
    p.clear();
    for (int64_t j = 0; j <= first + t; ++j) p.push_back(score(q_row, k, k_shared, j, kv));
    const double largest = *std::max_element(p.begin(), p.end());
    double sum = 0;
    for (double x : p) sum += std::exp(x - largest);
    for (double& x : p) x = std::exp(x - largest) / sum;
    return largest + std::log(sum);
  }

  int64_t heads, kv_heads, group, key, shared, value, first;
  double scale;
};

}  // namespace

void attention_ref(const AttentionArgs& shape, const double* q, const double* k,
                   const double* k_shared, const double* v, double* out, double* logsumexp) {
  const Plain s(shape);
  std::vector<double> p;
  for (int64_t t = 0; t < shape.num_queries; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / s.group, row = t * s.heads + h;
      logsumexp[row] = s.probabilities(q + row * (s.key + s.shared), k, k_shared, t, kv, p);
      for (int64_t d = 0; d < s.value; ++d) {
        double sum = 0;
        for (size_t j = 0; j < p.size(); ++j) {
          sum += p[j] * v[(static_cast<int64_t>(j) * s.kv_heads + kv) * s.value + d];
        }
        out[row * s.value + d] = sum;
      }
    }
  }
}

// dv_j += p_j dout; dp_j = dout . v_j; ds_j = p_j (dp_j - sum_i p_i dp_i) scale; dq += ds_j k_j;
// dk_j += ds_j q.
void attention_backward_ref(const AttentionArgs& shape, const double* q, const double* k,
                            const double* k_shared, const double* v, const double* dout, double* dq,
                            double* dk, double* dk_shared, double* dv) {
  const Plain s(shape);
  const int64_t context = shape.num_queries, width = s.key + s.shared;
  std::fill_n(dq, context * s.heads * width, 0.0);
  std::fill_n(dk, context * s.kv_heads * s.key, 0.0);
  std::fill_n(dk_shared, context * s.shared, 0.0);
  std::fill_n(dv, context * s.kv_heads * s.value, 0.0);
  std::vector<double> p, dp;
  for (int64_t t = 0; t < context; ++t) {
    for (int64_t h = 0; h < s.heads; ++h) {
      const int64_t kv = h / s.group, row = t * s.heads + h;
      const double* q_row = q + row * width;
      s.probabilities(q_row, k, k_shared, t, kv, p);
      dp.assign(p.size(), 0.0);
      double delta = 0;
      for (size_t j = 0; j < p.size(); ++j) {
        const int64_t at = (static_cast<int64_t>(j) * s.kv_heads + kv) * s.value;
        for (int64_t d = 0; d < s.value; ++d) {
          dp[j] += dout[row * s.value + d] * v[at + d];
          dv[at + d] += p[j] * dout[row * s.value + d];
        }
        delta += p[j] * dp[j];
      }
      for (size_t j = 0; j < p.size(); ++j) {
        const double ds = p[j] * (dp[j] - delta) * s.scale;
        const int64_t token = static_cast<int64_t>(j), at = (token * s.kv_heads + kv) * s.key;
        for (int64_t d = 0; d < s.key; ++d) {
          dq[row * width + d] += ds * k[at + d];
          dk[at + d] += ds * q_row[d];
        }
        for (int64_t d = 0; d < s.shared; ++d) {
          dq[row * width + s.key + d] += ds * k_shared[token * s.shared + d];
          dk_shared[token * s.shared + d] += ds * q_row[s.key + d];
        }
      }
    }
  }
}

}  // namespace mole::kernels
