// How far attention in float32 may lie from float64, for tests and cases: docs/numerics.md,
// "attention". Plain layouts as attention_ref's.
#pragma once

#include <vector>

#include "kernels/attention/attention.h"

namespace mole::kernels {

/// The inputs of one sequence, as attention_ref takes them; `shape` needs no pointers.
struct PlainAttention {
  AttentionArgs shape;
  std::vector<double> q, k, k_shared, v;
};

/// Bounds on the absolute error, one per element.
struct AttentionBounds {
  std::vector<double> out, logsumexp;
};
struct AttentionGradientBounds {
  std::vector<double> dq, dk, dk_shared, dv;  // dq [T, H, key + shared]
};

/// `roundoff`: that of the dtype in which out is stored.
AttentionBounds attention_bounds(const PlainAttention& plain, double roundoff);
/// `out` and `logsumexp` are the reference's.
AttentionGradientBounds attention_gradient_bounds(const PlainAttention& plain,
                                                  const std::vector<double>& dout,
                                                  const std::vector<double>& out,
                                                  const std::vector<double>& logsumexp,
                                                  double roundoff);

}  // namespace mole::kernels
