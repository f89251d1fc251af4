// rms_norm, add_rms_norm, rope_, latent_entry.
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/rms_norm/add_rms_norm.h"
#include "kernels/rms_norm/rms_norm_rows.h"
#include "kernels/rope/rope_rows.h"
#include "kernels/torch/nodes.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

/// rms_norm of the first weight.k() columns of x into those of y.
RmsNormArgs norm_args(const at::Tensor& x, Weight& weight, float eps, const at::Tensor& y,
                      const at::Tensor& inverse_rms) {
  const at::Tensor& values = weight.plain();
  check_tensor("rms_norm weight", values, {1, weight.k()}, dtype_of(x));
  MOLE_CHECK_LE(weight.k(), x.size(1));
  return {.x = x.data_ptr(),
          .weight = values.data_ptr(),
          .y = y.data_ptr(),
          .dtype = dtype_of(x),
          .rows = x.size(0),
          .dim = weight.k(),
          .x_stride = x.stride(0),
          .y_stride = y.stride(0),
          .eps = eps,
          .inverse_rms = inverse_rms.defined() ? inverse_rms.data_ptr<float>() : nullptr};
}

/// 1/rms a row, for a backward; undefined without one.
at::Tensor inverse_rms_for(bool record, const at::Tensor& x) {
  return record ? empty({x.size(0)}, DType::kFloat32) : at::Tensor();
}

/// dx [rows, dim] float32, with `dresidual` added if defined; adds to the weight's gradient. dy and
/// dresidual contiguous.
at::Tensor norm_backward(const at::Tensor& x, Weight& weight, float eps,
                         const at::Tensor& inverse_rms, const at::Tensor& dy,
                         const at::Tensor& dresidual = {}) {
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
                     .dweight = weight.grad(),
                     .dresidual = dresidual.defined() ? dresidual.data_ptr() : nullptr},
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

struct AddRmsNormNode : torch::autograd::Node {
  at::Tensor sum, inverse_rms;
  Weight* weight = nullptr;
  float eps = 0;
  size_t num_deltas = 1;

  variable_list apply(variable_list&& grads) override {
    // grads: of the sum, of the normalised sum (if there was one). Either may be undefined.
    at::Tensor dsum;
    if (grads[0].defined()) dsum = grads[0].contiguous();
    if (grads.size() > 1 && grads[1].defined()) {
      dsum = cast(norm_backward(sum, *weight, eps, inverse_rms, grads[1].contiguous(), dsum),
                  dtype_of(sum));
    }
    return variable_list(1 + num_deltas, dsum);
  }
  void release_variables() override {
    sum.reset();
    inverse_rms.reset();
  }
};

RopeArgs rope_args(const at::Tensor& x, const at::Tensor& positions, const RopePart& part) {
  MOLE_CHECK_EQ(positions.size(0), x.size(0));
  MOLE_CHECK_LE(part.first + (part.heads - 1) * part.head_stride + part.table->dim, x.size(1));
  return {.x = element(x, 0, part.first),
          .dtype = dtype_of(x),
          .rows = x.size(0),
          .heads = part.heads,
          .row_stride = x.stride(0),
          .head_stride = part.head_stride,
          .positions = positions.data_ptr<int32_t>(),
          .table = part.table,
          .layout = part.layout};
}

void turn(const at::Tensor& x, const at::Tensor& positions, const RopePart& part, bool inverse) {
  RopeArgs args = rope_args(x, positions, part);
  args.inverse = inverse;
  rope(args, team());
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
  const at::Tensor inverse_rms = inverse_rms_for(record, x), value = plain_value(x);
  rms_norm(norm_args(value, weight, eps, y, inverse_rms), team());
  if (record) {
    auto node = make_node<RmsNormNode>(x);
    node->x = value;
    node->inverse_rms = inverse_rms;
    node->weight = &weight;
    node->eps = eps;
    torch::autograd::set_history(y, node);
  }
  return y;
}

void rms_norm_into(const at::Tensor& x, Weight& weight, float eps, const at::Tensor& out,
                   int64_t first) {
  check_tensor("rms_norm x", x, {-1, weight.k()}, weight.compute_dtype());
  check_tensor("rms_norm out", out, {x.size(0), -1}, dtype_of(x));
  MOLE_CHECK_LE(first + weight.k(), out.size(1));
  RmsNormArgs args = norm_args(x, weight, eps, out, at::Tensor());
  args.y = element(out, 0, first);
  rms_norm(args, team());
}

at::Tensor add_rms_norm(at::Tensor& x, const Delta& delta, Weight* weight, float eps) {
  const int64_t rows = x.size(0), dim = x.size(1);
  const DType dtype = dtype_of(x);
  const bool two = delta.second.defined();
  check_tensor("add_rms_norm delta", delta.first, {rows, dim}, dtype);
  if (two) check_tensor("add_rms_norm second delta", delta.second, {rows, dim}, dtype);
  MOLE_CHECK(x.is_contiguous() && delta.first.is_contiguous());
  MOLE_CHECK(!two || delta.second.is_contiguous());
  const bool trainable = weight != nullptr && weight->trainable();
  const bool record = recording(trainable, x, delta.first, delta.second);
  at::Tensor sum = record ? empty({rows, dim}, dtype) : x;
  at::Tensor y = weight != nullptr ? empty({rows, dim}, dtype) : at::Tensor();
  const at::Tensor inverse_rms = inverse_rms_for(record && weight != nullptr, x);
  add_rms_norm({.x = x.data_ptr(),
                .delta = delta.first.data_ptr(),
                .second_delta = two ? delta.second.data_ptr() : nullptr,
                .sum = sum.data_ptr(),
                .weight = weight != nullptr ? weight->plain().data_ptr() : nullptr,
                .y = weight != nullptr ? y.data_ptr() : nullptr,
                .dtype = dtype,
                .rows = rows,
                .dim = dim,
                .eps = eps,
                .inverse_rms = inverse_rms.defined() ? inverse_rms.data_ptr<float>() : nullptr},
               team());
  if (record) {
    auto node = two ? make_node<AddRmsNormNode>(x, delta.first, delta.second)
                    : make_node<AddRmsNormNode>(x, delta.first);
    node->sum = sum.detach();
    node->inverse_rms = inverse_rms;
    node->weight = weight;
    node->eps = eps;
    node->num_deltas = two ? 2 : 1;
    torch::autograd::set_history(sum, node);
    if (y.defined()) torch::autograd::set_history(y, node);
    x = sum;
  }
  return y;
}

void rope_(at::Tensor& x, const at::Tensor& positions, const RopePart& part) {
  check_tensor("rope x", x, {-1, -1}, dtype_of(x));
  turn(plain_value(x), positions, part, false);
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
  const at::Tensor from = plain_value(kv_a), inverse_rms = inverse_rms_for(record, kv_a);
  const RmsNormArgs normed = norm_args(from, norm, eps, entry, inverse_rms);
  RopeArgs turned = rope_args(entry, positions, part);
  turned.from = element(from, 0, latent);
  turned.from_row_stride = from.stride(0);
  const bool wide = isa() >= Isa::kAvx512;
  auto rows = [&](int64_t begin, int64_t end) {
    wide ? avx512::rms_norm_rows(normed, begin, end) : avx2::rms_norm_rows(normed, begin, end);
    rope_part(turned, begin, end);
  };
  team().parallel_for(from.size(0), row_grain(latent + rotary), rows);
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
