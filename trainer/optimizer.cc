#include "trainer/optimizer.h"

#include <ATen/ops/zeros.h>

#include <cmath>

#include "base/check.h"
#include "kernels/adamw/adamw.h"
#include "kernels/torch/team.h"

namespace mole::trainer {

Optimizer::Optimizer(const std::vector<model::NamedTensor>& parameters, const TrainConfig& config)
    : parameters_(parameters),
      beta1_(config.beta1),
      beta2_(config.beta2),
      eps_(config.eps),
      weight_decay_(config.weight_decay),
      clip_norm_(config.clip_norm) {
  for (const model::NamedTensor& parameter : parameters_) {
    moments_.push_back({at::zeros(parameter.tensor.sizes(), at::kFloat),
                        at::zeros(parameter.tensor.sizes(), at::kFloat)});
  }
}

double Optimizer::gradient_norm() const {
  double sum = 0;
  for (const model::NamedTensor& parameter : parameters_) {
    const at::Tensor& gradient = parameter.tensor.grad();
    sum += kernels::sum_of_squares(gradient.const_data_ptr<float>(), gradient.numel(),
                                   kernels::team());
  }
  return std::sqrt(sum);
}

void Optimizer::update(int64_t step, double learning_rate, double gradient_norm) {
  const bool clip = clip_norm_ > 0 && gradient_norm > clip_norm_;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const at::Tensor& parameter = parameters_[i].tensor;
    MOLE_CHECK(parameter.is_contiguous() && parameter.grad().is_contiguous());
    kernels::AdamWArgs args;
    args.parameter = parameter.data_ptr<float>();
    args.gradient = parameter.grad().const_data_ptr<float>();
    args.moment1 = moments_[i].first.data_ptr<float>();
    args.moment2 = moments_[i].second.data_ptr<float>();
    args.count = parameter.numel();
    args.learning_rate = learning_rate;
    args.beta1 = beta1_;
    args.beta2 = beta2_;
    args.eps = eps_;
    args.weight_decay = parameter.dim() >= 2 ? weight_decay_ : 0.0;
    args.gradient_scale = clip ? clip_norm_ / gradient_norm : 1.0;
    args.step = step;
    kernels::adamw(args, kernels::team());
  }
}

}  // namespace mole::trainer
