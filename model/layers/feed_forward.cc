#include "model/layers/feed_forward.h"

#include <ATen/ops/add.h>

#include "kernels/torch/ops.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

DenseFeedForward::DenseFeedForward(int64_t hidden, int64_t width, const std::string& prefix,
                                   ParameterFactory& parameters)
    : gate_up_(parameters.matrix(
          {{prefix + "gate_proj.weight", width}, {prefix + "up_proj.weight", width}}, hidden)),
      down_(parameters.matrix({{prefix + "down_proj.weight", hidden}}, width)) {}

kernels::Delta DenseFeedForward::forward(const at::Tensor& x, StepContext&) {
  return {kernels::swiglu(x, *gate_up_, *down_)};
}

int64_t DenseFeedForward::resident_bytes() const {
  return gate_up_->resident_bytes() + down_->resident_bytes();
}

MoeFeedForward::MoeFeedForward(const kernels::RouterConfig& router, int64_t hidden, int64_t width,
                               const MoeNames& names, std::unique_ptr<DenseFeedForward> shared,
                               ParameterFactory& parameters)
    : router_(router), shared_(std::move(shared)) {
  // Router logits are float32 products of the rounded weights, as in transformers.
  gate_ =
      parameters.matrix({{names.gate, router.num_experts}}, hidden, {.compute_in_float32 = true});
  if (!names.correction_bias.empty()) {
    correction_bias_ = parameters.buffer(names.correction_bias, router.num_experts);
  }
  experts_ = parameters.experts(names.experts, hidden, width);
}

kernels::Delta MoeFeedForward::forward(const at::Tensor& x, StepContext& step) {
  const at::Tensor logits = kernels::linear(x, *gate_, DType::kFloat32);
  const kernels::Routing routing = kernels::route(
      logits, router_, correction_bias_, {.scale = step.balance_scale, .starts = &step.starts});
  add_loads(routing.expert_ids, step);
  if (routing.balance.defined()) {
    step.balance =
        step.balance.defined() ? at::add(step.balance, routing.balance) : routing.balance;
    step.balance_sum += routing.balance_sum;
  }
  at::Tensor routed = kernels::moe(x, routing, *experts_);
  if (shared_ == nullptr) return {std::move(routed)};
  return {std::move(routed), shared_->forward(x, step).first};
}

void MoeFeedForward::add_loads(const at::Tensor& expert_ids, StepContext& step) const {
  const size_t first = step.expert_loads.size();
  step.expert_loads.resize(first + static_cast<size_t>(router_.num_experts), 0);
  const int32_t* ids = expert_ids.data_ptr<int32_t>();
  for (int64_t i = 0; i < expert_ids.numel(); ++i) {
    ++step.expert_loads[first + static_cast<size_t>(ids[i])];
  }
}

int64_t MoeFeedForward::resident_bytes() const {
  return gate_->resident_bytes() + experts_->resident_bytes() +
         (shared_ == nullptr ? 0 : shared_->resident_bytes());
}

}  // namespace mole::model
