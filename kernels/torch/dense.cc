// linear, swiglu, embedding.
#include "base/check.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "kernels/silu_mul/silu_mul.h"
#include "kernels/torch/nodes.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

at::Tensor multiply(const at::Tensor& x, const PackedWeight& weight, DType y_dtype) {
  check_tensor("linear x", x, {-1, weight.k()}, weight.dtype());
  at::Tensor y = empty({x.size(0), weight.n()}, y_dtype);
  linear({.x = x.data_ptr(),
          .rows = x.size(0),
          .x_stride = x.stride(0),
          .weight = &weight,
          .y = y.data_ptr(),
          .y_dtype = y_dtype,
          .y_stride = weight.n()},
         team());
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
  const at::Tensor factor =
      dtype_of(x) == weight.compute_dtype() ? x.detach() : cast(x.detach(), weight.compute_dtype());
  at::Tensor y = multiply(factor, weight.packed(), y_dtype);
  if (recording(weight.trainable(), x)) {
    auto node = make_node<LinearNode>(x);
    node->x = factor;
    node->x_dtype = dtype_of(x);
    node->weight = &weight;
    torch::autograd::set_history(y, node);
  }
  return y;
}

at::Tensor swiglu(const at::Tensor& x, Weight& gate_up, Weight& down) {
  const DType dtype = dtype_of(x);
  const int64_t width = down.k();
  MOLE_CHECK_EQ(gate_up.n(), 2 * width);
  const at::Tensor gate_up_out = multiply(x.detach(), gate_up.packed(), DType::kFloat32);
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
