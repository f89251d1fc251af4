// route and moe: which experts each token goes to, and what they give.
#include "kernels/moe/moe.h"

#include <ATen/ops/full.h>

#include "base/check.h"
#include "kernels/torch/balance.h"
#include "kernels/torch/nodes.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

const float* data_or_null(const at::Tensor& x) {
  return x.defined() ? x.data_ptr<float>() : nullptr;
}

struct RouteTensors {
  at::Tensor logits, correction_bias, expert_ids, weights, scores;
};

RouterArgs router_args(const RouteTensors& t, const RouterConfig& config) {
  return {.config = config,
          .logits = t.logits.data_ptr<float>(),
          .correction_bias = data_or_null(t.correction_bias),
          .tokens = t.logits.size(0),
          .expert_ids = t.expert_ids.data_ptr<int32_t>(),
          .weights = t.weights.data_ptr<float>(),
          .scores = t.scores.defined() ? t.scores.data_ptr<float>() : nullptr};
}

struct RouteNode : torch::autograd::Node {
  RouteTensors saved;
  at::Tensor dscores;  // of the balance loss, or undefined
  RouterConfig config;

  variable_list apply(variable_list&& grads) override {
    // grads: of the weights, of the balance loss.
    if (!grads[0].defined() && !grads[1].defined()) return {at::Tensor()};
    const at::Tensor dweights =
        grads[0].defined() ? grads[0].contiguous() : zeros(saved.weights.sizes(), DType::kFloat32);
    at::Tensor dbalance;
    if (grads[1].defined() && dscores.defined()) dbalance = dscores.mul(grads[1]);
    at::Tensor dlogits = empty(saved.logits.sizes(), DType::kFloat32);
    router_backward({.forward = router_args(saved, config),
                     .dweights = dweights.data_ptr<float>(),
                     .dscores = data_or_null(dbalance),
                     .dlogits = dlogits.data_ptr<float>()},
                    team());
    return {dlogits};
  }
  void release_variables() override {
    saved = {};
    dscores.reset();
  }
};

struct MoeTensors {
  at::Tensor x, weights, expert_ids, gate_up;
};

MoeArgs moe_args(const MoeTensors& t, ExpertBank& bank) {
  return {.x = t.x.data_ptr(),
          .dtype = bank.dtype(),
          .tokens = t.x.size(0),
          .hidden = bank.hidden(),
          .expert_width = bank.width(),
          .top_k = static_cast<int32_t>(t.weights.size(1)),
          .expert_ids = t.expert_ids.data_ptr<int32_t>(),
          .weights = t.weights.data_ptr<float>(),
          .experts = bank.experts(),
          .saved_gate_up = t.gate_up.defined() ? t.gate_up.data_ptr<float>() : nullptr};
}

struct MoeNode : torch::autograd::Node {
  MoeTensors saved;
  ExpertBank* bank = nullptr;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor(), at::Tensor()};
    const at::Tensor dy = grads[0].contiguous();
    const at::Tensor dx = empty(saved.x.sizes(), DType::kFloat32);
    at::Tensor dweights = empty(saved.weights.sizes(), DType::kFloat32);
    moe_backward({.forward = moe_args(saved, *bank),
                  .dy = dy.data_ptr(),
                  .experts_t = bank->experts_t(),
                  .dx = dx.data_ptr<float>(),
                  .dweights = dweights.data_ptr<float>(),
                  .dgate_up = bank->gate_up_grads().data(),
                  .ddown = bank->down_grads().data()},
                 team());
    return {cast(dx, bank->dtype()), dweights};
  }
  void release_variables() override { saved = {}; }
};

}  // namespace

Routing route(const at::Tensor& logits, const RouterConfig& config,
              const at::Tensor& correction_bias, const BalanceOptions& balance) {
  const int64_t tokens = logits.size(0);
  check_tensor("router logits", logits, {tokens, config.num_experts}, DType::kFloat32);
  RouteTensors t{plain_value(logits), correction_bias, at::Tensor(), at::Tensor(), at::Tensor()};
  t.expert_ids = empty_int32({tokens, config.top_k});
  Routing routing;
  routing.expert_ids = t.expert_ids;
  routing.weights = empty({tokens, config.top_k}, DType::kFloat32);
  const bool record = recording(false, logits), balanced = balance.scale != 0.0;
  t.weights = record ? routing.weights.detach() : routing.weights;
  if (record || balanced) t.scores = empty({tokens, config.num_experts}, DType::kFloat32);
  router(router_args(t, config), team());

  at::Tensor dscores;
  if (balanced) {
    if (record) dscores = empty(t.scores.sizes(), DType::kFloat32);
    routing.balance_sum = balance_loss({.scores = t.scores.data_ptr<float>(),
                                        .num_experts = config.num_experts,
                                        .top_k = config.top_k,
                                        .starts = balance.starts,
                                        .scale = balance.scale,
                                        .dscores = record ? dscores.data_ptr<float>() : nullptr});
    routing.balance = at::full({}, balance.scale * routing.balance_sum);
  }
  if (record) {
    auto node = make_node<RouteNode>(logits);
    node->saved = t;
    node->dscores = dscores;
    node->config = config;
    torch::autograd::set_history(routing.weights, node);
    torch::autograd::set_history(routing.balance, node);
  }
  return routing;
}

at::Tensor moe(const at::Tensor& x, const Routing& routing, ExpertBank& bank) {
  const int64_t tokens = x.size(0), top_k = routing.weights.size(1);
  check_tensor("moe x", x, {tokens, bank.hidden()}, bank.dtype());
  check_tensor("moe weights", routing.weights, {tokens, top_k}, DType::kFloat32);
  const at::Tensor rows = plain_value(x).contiguous();
  MoeTensors t{rows, plain_value(routing.weights), routing.expert_ids, at::Tensor()};
  const bool record = recording(bank.trainable(), x, routing.weights);
  if (record) t.gate_up = empty({tokens, top_k, 2 * bank.width()}, DType::kFloat32);
  at::Tensor y = empty({tokens, bank.hidden()}, bank.dtype());
  MoeArgs args = moe_args(t, bank);
  args.y = y.data_ptr();
  moe(args, team());
  if (record) {
    auto node = make_node<MoeNode>(x, routing.weights);
    node->saved = t;
    node->bank = &bank;
    torch::autograd::set_history(y, node);
  }
  return y;
}

}  // namespace mole::kernels
