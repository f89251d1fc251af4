// AdamW over a model's parameters: the moments, the global norm, one update. Thread: one owner; the
// work is split over the process-wide team.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "model/trainable.h"
#include "trainer/config.h"

namespace mole::trainer {

struct Moments {
  at::Tensor first, second;  // float32, the parameter's shape, zero before step 1
};

class Optimizer {
 public:
  Optimizer(const std::vector<model::NamedTensor>& parameters, const TrainConfig& config);

  /// Euclidean norm over all gradients together: squares summed in double, in the order of the
  /// parameters, so its bits don't depend on the number of threads.
  double gradient_norm() const;

  /// Updates every parameter. `step` counts from 1. Weight decay falls on matrices only: norms and
  /// biases keep their scale. Gradients are scaled by clip_norm / gradient_norm where that is
  /// below 1.
  void update(int64_t step, double learning_rate, double gradient_norm);

  /// In the order of the parameters.
  std::vector<Moments>& moments() { return moments_; }

 private:
  std::vector<model::NamedTensor> parameters_;
  std::vector<Moments> moments_;
  double beta1_, beta2_, eps_, weight_decay_, clip_norm_;
};

}  // namespace mole::trainer
