// linear, linear_pair, swiglu, embedding.
#include <array>

#include "base/check.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/linear_impl.h"
#include "kernels/silu_mul/silu_mul.h"
#include "kernels/torch/nodes.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

/// y = x weight^T as the kernel takes it; y is contiguous.
LinearArgs product(const at::Tensor& x, const PackedWeight& weight, const at::Tensor& y) {
  check_tensor("linear x", x, {-1, weight.k()}, weight.dtype());
  return {.x = x.data_ptr(),
          .rows = x.size(0),
          .x_stride = x.stride(0),
          .weight = &weight,
          .y = y.data_ptr(),
          .y_dtype = dtype_of(y),
          .y_stride = weight.n()};
}

at::Tensor multiply(const at::Tensor& x, const PackedWeight& weight, DType y_dtype) {
  at::Tensor y = empty({x.size(0), weight.n()}, y_dtype);
  linear(product(x, weight, y), team());
  return y;
}

struct LinearNode : torch::autograd::Node {
  at::Tensor x;  // [T, K] in the compute type
  DType x_dtype = DType::kFloat32;
  Weight* weight = nullptr;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const at::Tensor dy = cast(dense_rows(grads[0]), weight->compute_dtype());
    if (weight->trainable()) add_weight_gradient(dy, x, weight->grad());
    if (!should_compute_output(0)) return {at::Tensor()};
    return {multiply(dy, weight->packed_t(), x_dtype)};
  }
  void release_variables() override { x.reset(); }
};

/// Lets `y` remember how it was made; `factor` is x in the compute type.
void record_linear(const at::Tensor& x, const at::Tensor& factor, Weight& weight,
                   const at::Tensor& y) {
  if (!recording(weight.trainable(), x)) return;
  auto node = make_node<LinearNode>(x);
  node->x = factor;
  node->x_dtype = dtype_of(x);
  node->weight = &weight;
  torch::autograd::set_history(y, node);
}

struct SwigluNode : torch::autograd::Node {
  at::Tensor x, gate_up_out, middle;  // [T, D], [T, 2F] float32, [T, F]
  Weight* gate_up = nullptr;
  Weight* down = nullptr;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const DType dtype = dtype_of(x);
    const at::Tensor dy = dense_rows(grads[0]);
    if (down->trainable()) add_weight_gradient(dy, middle, down->grad());
    const at::Tensor dmiddle = multiply(dy, down->packed_t(), DType::kFloat32);
    const at::Tensor dgate_up = empty(gate_up_out.sizes(), dtype);
    silu_mul_backward({.forward = {.gate_up = gate_up_out.data_ptr(),
                                   .in_dtype = DType::kFloat32,
                                   .rows = x.size(0),
                                   .width = middle.size(1),
                                   .out_dtype = dtype},
                       .dy = dmiddle.data_ptr<float>(),
                       .dgate_up = dgate_up.data_ptr()},
                      team());
    if (gate_up->trainable()) add_weight_gradient(dgate_up, x, gate_up->grad());
    if (!should_compute_output(0)) return {at::Tensor()};
    return {multiply(dgate_up, gate_up->packed_t(), dtype)};
  }
  void release_variables() override {
    x.reset();
    gate_up_out.reset();
    middle.reset();
  }
};

struct EmbeddingNode : torch::autograd::Node {
  std::vector<TokenId> ids;
  Weight* table = nullptr;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {};
    const at::Tensor dy = grads[0].contiguous();
    embedding_backward(dy.data_ptr(), dtype_of(dy), ids.data(), dy.size(0), table->n(), table->k(),
                       table->grad(), team());
    return {};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, Weight& weight, DType y_dtype) {
  const at::Tensor factor = plain_value(x);
  const bool same = dtype_of(x) == weight.compute_dtype();
  const at::Tensor converted = same ? factor : cast(factor, weight.compute_dtype());
  at::Tensor y = multiply(converted, weight.packed(), y_dtype);
  record_linear(x, converted, weight, y);
  return y;
}

std::pair<at::Tensor, at::Tensor> linear_pair(const at::Tensor& x, Weight& first, Weight& second,
                                              DType y_dtype) {
  const at::Tensor factor = plain_value(x);
  at::Tensor y = empty({x.size(0), first.n()}, y_dtype);
  at::Tensor z = empty({x.size(0), second.n()}, y_dtype);
  const std::array<LinearArgs, 2> products{product(factor, first.packed(), y),
                                           product(factor, second.packed(), z)};
  linear_many(products, team());
  record_linear(x, factor, first, y);
  record_linear(x, factor, second, z);
  return {std::move(y), std::move(z)};
}

at::Tensor swiglu(const at::Tensor& x, Weight& gate_up, Weight& down) {
  const DType dtype = dtype_of(x);
  const int64_t width = down.k();
  MOLE_CHECK_EQ(gate_up.n(), 2 * width);
  const at::Tensor gate_up_out = multiply(plain_value(x), gate_up.packed(), DType::kFloat32);
  const at::Tensor middle = empty({x.size(0), width}, dtype);
  silu_mul({.gate_up = gate_up_out.data_ptr(),
            .in_dtype = DType::kFloat32,
            .rows = x.size(0),
            .width = width,
            .y = middle.data_ptr(),
            .out_dtype = dtype},
           team());
  at::Tensor y = multiply(middle, down.packed(), dtype);
  if (recording(gate_up.trainable(), x)) {
    auto node = make_node<SwigluNode>(x);
    node->x = x.detach();
    node->gate_up_out = gate_up_out;
    node->middle = middle;
    node->gate_up = &gate_up;
    node->down = &down;
    torch::autograd::set_history(y, node);
  }
  return y;
}

at::Tensor embedding(std::span<const TokenId> ids, Weight& table) {
  const at::Tensor& values = table.plain();
  const int64_t tokens = static_cast<int64_t>(ids.size());
  at::Tensor y = empty({tokens, table.k()}, dtype_of(values));
  embedding(values.data_ptr(), dtype_of(values), ids.data(), tokens, table.k(), y.data_ptr(),
            team());
  if (recording(table.trainable())) {
    auto node = make_node<EmbeddingNode>();
    node->ids.assign(ids.begin(), ids.end());
    node->table = &table;
    torch::autograd::set_history(y, node);
  }
  return y;
}

}  // namespace mole::kernels
