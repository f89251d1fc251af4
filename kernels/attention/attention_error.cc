#include "kernels/attention/attention_error.h"

#include <algorithm>
#include <cmath>

#include "kernels/cases/tolerance.h"

namespace mole::kernels {
namespace {

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

double magnitude(const double* a, const double* b, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += std::abs(a[i] * b[i]);
  return sum;
}

/// Rounding of probabilities on their way into the product with values, in numerator and divisor.
double weight_rounding(const AttentionArgs& s) {
  return s.dtype == DType::kBFloat16 ? 2 * kUnitBf16 * (1 + 2 * kUnitBf16) : 0;
}

/// Errors of one row of queries.
struct RowError {
  double weight;  // relative, of a probability
  double chain;   // relative, of the sums over keys
};

/// Where the parts of row (t, head) lie.
struct Row {
  Row(const PlainAttention& plain, int64_t row)
      : p(plain),
        s(plain.shape),
        t(row / s.num_heads),
        kv(row % s.num_heads / (s.num_heads / s.num_kv_heads)),
        last(s.first_position + t),
        q(plain.q.data() + row * (s.key_dim + s.shared_dim)) {}

  const double* key(int64_t j) const { return p.k.data() + (j * s.num_kv_heads + kv) * s.key_dim; }
  const double* shared(int64_t j) const { return p.k_shared.data() + j * s.shared_dim; }
  const double* value(int64_t j) const {
    return p.v.data() + (j * s.num_kv_heads + kv) * s.value_dim;
  }

  double score(int64_t j) const {
    double sum = 0;
    for (int64_t d = 0; d < s.key_dim; ++d) sum += q[d] * key(j)[d];
    for (int64_t d = 0; d < s.shared_dim; ++d) sum += q[s.key_dim + d] * shared(j)[d];
    return sum * s.scale;
  }

  RowError error() const {
    double largest = 0;
    for (int64_t j = 0; j <= last; ++j) {
      largest = std::max(largest, magnitude(q, key(j), s.key_dim) +
                                      magnitude(q + s.key_dim, shared(j), s.shared_dim));
    }
    largest *= s.scale;
    // exp: its two units, and the rounding of its argument; scores lie within 2 largest of each
    // other.
    const double exponential = (2 * largest + 4) * kUnitF32;
    const double blocks = static_cast<double>(last / kAttentionBlock + 1);
    RowError out;
    // For the key and, through the divisor, for the sum.
    out.weight = 2 * (chain_tolerance(s.key_dim + s.shared_dim + 1, largest) + exponential);
    out.chain = chain_tolerance(kAttentionBlock + 8, 1) + blocks * (2 * exponential + 3 * kUnitF32);
    return out;
  }

  const PlainAttention& p;
  const AttentionArgs& s;
  int64_t t, kv, last;
  const double* q;
};

}  // namespace

AttentionBounds attention_bounds(const PlainAttention& plain, double roundoff) {
  const AttentionArgs& s = plain.shape;
  const int64_t rows = s.num_queries * s.num_heads;
  std::vector<double> absolute = plain.v;
  for (double& x : absolute) x = std::abs(x);
  std::vector<double> out(at(rows * s.value_dim)), sizes(out.size()), logsumexp(at(rows));
  auto reference = [&](const std::vector<double>& v, std::vector<double>& to) {
    attention_ref(s, plain.q.data(), plain.k.data(), plain.k_shared.data(), v.data(), to.data(),
                  logsumexp.data());
  };
  reference(absolute, sizes);
  reference(plain.v, out);
  AttentionBounds bounds;
  for (int64_t row = 0; row < rows; ++row) {
    const RowError error = Row(plain, row).error();
    for (int64_t i = row * s.value_dim; i < (row + 1) * s.value_dim; ++i) {
      bounds.out.push_back((error.weight + 2 * error.chain + weight_rounding(s)) * sizes[at(i)] +
                           roundoff * std::abs(out[at(i)]));
    }
    bounds.logsumexp.push_back(error.weight + error.chain +
                               kUnitF32 * std::abs(logsumexp[at(row)]));
  }
  return bounds;
}

AttentionGradientBounds attention_gradient_bounds(const PlainAttention& plain,
                                                  const std::vector<double>& dout,
                                                  const std::vector<double>& out,
                                                  const std::vector<double>& logsumexp,
                                                  double roundoff) {
  const AttentionArgs& s = plain.shape;
  const int64_t width = s.key_dim + s.shared_dim, group = s.num_heads / s.num_kv_heads;
  AttentionGradientBounds b{
      std::vector<double>(plain.q.size()), std::vector<double>(plain.k.size()),
      std::vector<double>(plain.k_shared.size()), std::vector<double>(plain.v.size())};
  const double chain = chain_tolerance(s.num_queries * (group + 1) + s.num_kv_heads + 4, 1);
  for (int64_t row = 0; row < s.num_queries * s.num_heads; ++row) {
    const Row r(plain, row);
    const RowError error = r.error();
    const double* dout_row = &dout[at(row * s.value_dim)];
    const double lse = logsumexp[at(row)];
    const double weight = 2 * error.weight + error.chain + 2 * kUnitF32 * std::abs(lse);
    const double delta = magnitude(dout_row, &out[at(row * s.value_dim)], s.value_dim);
    double rounded = 0;  // of delta, by the forward's rounded probabilities
    for (int64_t j = 0; j <= r.last; ++j) {
      rounded += std::exp(r.score(j) - lse) * magnitude(dout_row, r.value(j), s.value_dim);
    }
    rounded *= weight_rounding(s);
    for (int64_t j = 0; j <= r.last; ++j) {
      const double p = std::exp(r.score(j) - lse);
      const double dp = magnitude(dout_row, r.value(j), s.value_dim);
      // delta is taken from the stored output, which was rounded and has the forward's error.
      const double ds = p * s.scale *
                        ((dp + delta) * (2 * weight + chain_tolerance(s.value_dim + 3, 1) + chain) +
                         delta * roundoff + rounded + dp * weight);
      for (int64_t d = 0; d < s.key_dim; ++d) {
        b.dq[at(row * width + d)] += ds * std::abs(r.key(j)[d]);
        b.dk[at((j * s.num_kv_heads + r.kv) * s.key_dim + d)] += ds * std::abs(r.q[d]);
      }
      for (int64_t d = 0; d < s.shared_dim; ++d) {
        b.dq[at(row * width + s.key_dim + d)] += ds * std::abs(r.shared(j)[d]);
        b.dk_shared[at(j * s.shared_dim + d)] += ds * std::abs(r.q[s.key_dim + d]);
      }
      for (int64_t d = 0; d < s.value_dim; ++d) {
        b.dv[at((j * s.num_kv_heads + r.kv) * s.value_dim + d)] +=
            p * std::abs(dout_row[d]) * (weight + chain);
      }
    }
  }
  return b;
}

}  // namespace mole::kernels
