// rms_norm, rope_, latent_entry.
#include <ATen/ops/zeros.h>

#include "base/check.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/torch/nodes.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

/// Normalises the first weight.k() columns of x into those of y; returns 1/rms per row if `keep`.
at::Tensor norm_columns(const at::Tensor& x, Weight& weight, float eps, const at::Tensor& y,
                        bool keep) {
  const at::Tensor& values = weight.plain();
  check_tensor("rms_norm weight", values, {1, weight.k()}, dtype_of(x));
  MOLE_CHECK_LE(weight.k(), x.size(1));
  at::Tensor inverse_rms;
  if (keep) inverse_rms = empty({x.size(0)}, DType::kFloat32);
  rms_norm({.x = x.data_ptr(),
            .weight = values.data_ptr(),
            .y = y.data_ptr(),
            .dtype = dtype_of(x),
            .rows = x.size(0),
            .dim = weight.k(),
            .x_stride = x.stride(0),
            .y_stride = y.stride(0),
            .eps = eps,
            .inverse_rms = keep ? inverse_rms.data_ptr<float>() : nullptr},
           team());
  return inverse_rms;
}

/// dx [rows, dim] float32; adds to the weight's gradient. dy contiguous.
at::Tensor norm_backward(const at::Tensor& x, Weight& weight, float eps,
                         const at::Tensor& inverse_rms, const at::Tensor& dy) {
  at::Tensor dx = empty({x.size(0), weight.k()}, DType::kFloat32);
  rms_norm_backward({.forward = {.x = x.data_ptr(),
                                 .weight = weight.plain().data_ptr(),
                                 .dtype = dtype_of(x),
                                 .rows = x.size(0),
                                 .dim = weight.k(),
                                 .x_stride = x.stride(0),
                                 .eps = eps,
                                 .inverse_rms = inverse_rms.data_ptr<float>()},
                     .dy = dy.data_ptr(),
                     .dx = dx.data_ptr<float>(),
                     .dweight = weight.grad()},
                    team());
  return dx;
}

struct RmsNormNode : torch::autograd::Node {
  at::Tensor x, inverse_rms;
  Weight* weight = nullptr;
  float eps = 0;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const at::Tensor dx = norm_backward(x, *weight, eps, inverse_rms, grads[0].contiguous());
    return {cast(dx, dtype_of(x))};
  }
  void release_variables() override {
    x.reset();
    inverse_rms.reset();
  }
};

void turn(const at::Tensor& x, const at::Tensor& positions, const RopePart& part, bool inverse) {
  MOLE_CHECK_EQ(positions.size(0), x.size(0));
  MOLE_CHECK_LE(part.first + (part.heads - 1) * part.head_stride + part.table->dim, x.size(1));
  rope({.x = element(x, 0, part.first),
        .dtype = dtype_of(x),
        .rows = x.size(0),
        .heads = part.heads,
        .row_stride = x.stride(0),
        .head_stride = part.head_stride,
        .positions = positions.data_ptr<int32_t>(),
        .table = part.table,
        .layout = part.layout,
        .inverse = inverse},
       team());
}

struct RopeNode : torch::autograd::Node {
  at::Tensor positions;
  RopePart part;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const at::Tensor dx = grads[0].clone(at::MemoryFormat::Contiguous);
    turn(dx, positions, part, true);
    return {dx};
  }
};

struct LatentEntryNode : torch::autograd::Node {
  at::Tensor kv_a, inverse_rms, positions;
  Weight* norm = nullptr;
  float eps = 0;
  RopePart part;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor()};
    const int64_t latent = norm->k(), rotary = kv_a.size(1) - latent;
    const at::Tensor dentry = dense_rows(grads[0]);
    const at::Tensor dkv_a = empty(kv_a.sizes(), dtype_of(kv_a));
    const at::Tensor dlatent = dentry.narrow(1, 0, latent).contiguous();
    copy_rows(norm_backward(kv_a, *norm, eps, inverse_rms, dlatent), dkv_a.narrow(1, 0, latent));
    copy_rows(dentry.narrow(1, latent, rotary), dkv_a.narrow(1, latent, rotary));
    turn(dkv_a, positions, part, true);
    return {dkv_a};
  }
  void release_variables() override {
    kv_a.reset();
    inverse_rms.reset();
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, Weight& weight, float eps) {
  check_tensor("rms_norm x", x, {-1, weight.k()}, weight.compute_dtype());
  at::Tensor y = empty(x.sizes(), dtype_of(x));
  const bool record = recording(weight.trainable(), x);
  const at::Tensor inverse_rms = norm_columns(x.detach(), weight, eps, y, record);
  if (record) {
    auto node = make_node<RmsNormNode>(x);
    node->x = x.detach();
    node->inverse_rms = inverse_rms;
    node->weight = &weight;
    node->eps = eps;
    torch::autograd::set_history(y, node);
  }
  return y;
}

void rope_(at::Tensor& x, const at::Tensor& positions, const RopePart& part) {
  check_tensor("rope x", x, {-1, -1}, dtype_of(x));
  turn(x.detach(), positions, part, false);
  if (recording(false, x)) {
    auto node = make_node<RopeNode>(x);
    node->positions = positions;
    node->part = part;
    const uint32_t output = node->add_input_metadata(x);
    torch::autograd::impl::rebase_history(x, {node, output});
  }
}

at::Tensor latent_entry(const at::Tensor& kv_a, Weight& norm, float eps,
                        const at::Tensor& positions, const RopeTable& table, RopeLayout layout) {
  const int64_t latent = norm.k(), rotary = table.dim;
  check_tensor("latent_entry kv_a", kv_a, {-1, latent + rotary}, norm.compute_dtype());
  const RopePart part{&table, layout, latent, 1, rotary};
  at::Tensor entry = empty(kv_a.sizes(), dtype_of(kv_a));
  const bool record = recording(norm.trainable(), kv_a);
  const at::Tensor from = kv_a.detach();
  const at::Tensor inverse_rms = norm_columns(from, norm, eps, entry, record);
  copy_rows(from.narrow(1, latent, rotary), entry.narrow(1, latent, rotary));
  turn(entry, positions, part, false);
  if (record) {
    auto node = make_node<LatentEntryNode>(kv_a);
    node->kv_a = from;
    node->inverse_rms = inverse_rms;
    node->positions = positions;
    node->norm = &norm;
    node->eps = eps;
    node->part = part;
    torch::autograd::set_history(entry, node);
  }
  return entry;
}

}  // namespace mole::kernels
