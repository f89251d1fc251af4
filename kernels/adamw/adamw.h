// AdamW with decoupled weight decay. Source: arXiv 1711.05101, algorithm 2; the order of operations
// is that of torch.optim.AdamW. Numerics: float32 element by element; step corrections in double.
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

struct AdamWArgs {
  float* parameter = nullptr;  // [count], updated
  const float* gradient = nullptr;
  float* moment1 = nullptr;  // updated
  float* moment2 = nullptr;  // updated
  int64_t count = 0;
  double learning_rate = 0, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0;
  double gradient_scale = 1;  // clipping: gradient * gradient_scale is what counts
  int64_t step = 1;           // from 1
};
void adamw(const AdamWArgs& args, ThreadTeam& team);

/// In float64, in place: what the implementation is held against.
void adamw_ref(double* parameter, const double* gradient, double* moment1, double* moment2,
               int64_t count, const AdamWArgs& scalars);

/// Sum of squares in double, in one order: parts of 4096 elements, a part over 16 interleaved
/// chains (element i in chain i mod 16) that are added in order; parts added in order.
double sum_of_squares(const float* x, int64_t count, ThreadTeam& team);

}  // namespace mole::kernels
