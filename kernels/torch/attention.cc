// attention over whole sequences, with gradients. Steps of the server build their own arguments,
// over pages, and call the same kernel.
#include "kernels/attention/attention.h"

#include "base/check.h"
#include "kernels/torch/nodes.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

/// The kernel's arguments for each sequence of a batch, with the block pointers they refer to.
struct SequenceArgs {
  std::vector<AttentionArgs> args;
  std::vector<const void*> keys, values, shared;
};

struct AttentionTensors {
  at::Tensor q, kv, k_shared, out, logsumexp;
};

AttentionArgs common_args(const AttentionTensors& t, const AttentionShape& s) {
  const int64_t q_head = s.key_dim + s.shared_dim;
  return {.dtype = dtype_of(t.q),
          .num_heads = s.heads,
          .num_kv_heads = s.kv_heads,
          .key_dim = s.key_dim,
          .shared_dim = s.shared_dim,
          .value_dim = s.value_dim,
          .scale = s.scale,
          .q_row_stride = t.q.stride(0),
          .q_head_stride = q_head,
          .q_shared_row_stride = t.q.stride(0),
          .q_shared_head_stride = q_head,
          .key_row_stride = t.kv.stride(0),
          .key_head_stride = s.key_head_stride,
          .value_row_stride = t.kv.stride(0),
          .value_head_stride = s.value_head_stride,
          .shared_row_stride = s.shared_dim > 0 ? t.k_shared.stride(0) : 0,
          .out_row_stride = t.out.stride(0),
          .out_head_stride = s.value_dim};
}

SequenceArgs sequence_args(const AttentionTensors& t, const std::vector<int32_t>& starts,
                           const AttentionShape& s) {
  SequenceArgs all;
  const bool shared = s.shared_dim > 0;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    for (int32_t row = starts[i]; row < starts[i + 1]; row += kAttentionBlock) {
      all.keys.push_back(element(t.kv, row, 0));
      all.values.push_back(element(t.kv, row, s.value_first));
      if (shared) all.shared.push_back(element(t.k_shared, row, 0));
    }
  }
  size_t block = 0;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    const int64_t row = starts[i], rows = starts[i + 1] - starts[i];
    if (rows == 0) continue;
    AttentionArgs args = common_args(t, s);
    args.num_queries = rows;
    args.q = element(t.q, row, 0);
    args.out = element(t.out, row, 0);
    args.key_blocks = all.keys.data() + block;
    args.value_blocks = all.values.data() + block;
    if (shared) {
      args.q_shared = element(t.q, row, s.key_dim);
      args.shared_blocks = all.shared.data() + block;
    }
    if (t.logsumexp.defined()) args.logsumexp = t.logsumexp.data_ptr<float>() + row * s.heads;
    all.args.push_back(args);
    block += static_cast<size_t>((rows + kAttentionBlock - 1) / kAttentionBlock);
  }
  return all;
}

/// Gradients as the kernel makes them: float32, contiguous over all rows.
struct AttentionGradients {
  at::Tensor dq, dq_shared, dk, dk_shared, dv;
};

AttentionGradients run_backward(const AttentionTensors& t, const at::Tensor& dout,
                                const std::vector<int32_t>& starts, const AttentionShape& s) {
  const int64_t rows = t.q.size(0);
  AttentionGradients g;
  g.dq = empty({rows, s.heads * s.key_dim}, DType::kFloat32);
  g.dq_shared = empty({rows, s.heads * s.shared_dim}, DType::kFloat32);
  g.dk = empty({rows, s.kv_heads * s.key_dim}, DType::kFloat32);
  g.dk_shared = empty({rows, s.shared_dim}, DType::kFloat32);
  g.dv = empty({rows, s.kv_heads * s.value_dim}, DType::kFloat32);
  const SequenceArgs all = sequence_args(t, starts, s);
  std::vector<AttentionBackwardArgs> backward;
  int64_t row = 0;
  for (const AttentionArgs& args : all.args) {
    auto at_row = [&](const at::Tensor& x) { return x.data_ptr<float>() + row * x.size(1); };
    backward.push_back({.forward = args,
                        .dout = element(dout, row, 0),
                        .dq = at_row(g.dq),
                        .dq_shared = s.shared_dim > 0 ? at_row(g.dq_shared) : nullptr,
                        .dk = at_row(g.dk),
                        .dk_shared = s.shared_dim > 0 ? at_row(g.dk_shared) : nullptr,
                        .dv = at_row(g.dv)});
    row += args.num_queries;
  }
  MOLE_CHECK_EQ(row, rows);
  attention_backward(backward.data(), static_cast<int64_t>(backward.size()), team());
  return g;
}

/// Copies head h of from [T, heads * dim] to columns first + h * head_stride of `to`, whose rows
/// are either heads of head_stride numbers each, or hold the heads side by side (head_stride ==
/// dim).
void place_heads(const at::Tensor& from, int64_t heads, int64_t dim, const at::Tensor& to,
                 int64_t first, int64_t head_stride) {
  if (head_stride == dim) return copy_rows(from, to.narrow(1, first, heads * dim));
  MOLE_CHECK_EQ(to.size(1), heads * head_stride);
  const int64_t rows = from.size(0) * heads;
  copy_rows(from.view({rows, dim}), to.view({rows, head_stride}).narrow(1, first, dim));
}

struct AttentionNode : torch::autograd::Node {
  AttentionTensors saved;
  std::vector<int32_t> starts;
  AttentionShape shape;

  variable_list apply(variable_list&& grads) override {
    if (!grads[0].defined()) return {at::Tensor(), at::Tensor(), at::Tensor()};
    const AttentionShape& s = shape;
    const AttentionGradients g = run_backward(saved, grads[0].contiguous(), starts, s);
    const DType dtype = dtype_of(saved.q);
    const at::Tensor dq = empty(saved.q.sizes(), dtype), dkv = empty(saved.kv.sizes(), dtype);
    place_heads(g.dq, s.heads, s.key_dim, dq, 0, s.key_dim + s.shared_dim);
    place_heads(g.dk, s.kv_heads, s.key_dim, dkv, 0, s.key_head_stride);
    place_heads(g.dv, s.kv_heads, s.value_dim, dkv, s.value_first, s.value_head_stride);
    at::Tensor dk_shared;
    if (s.shared_dim > 0) {
      place_heads(g.dq_shared, s.heads, s.shared_dim, dq, s.key_dim, s.key_dim + s.shared_dim);
      dk_shared = cast(g.dk_shared, dtype);
    }
    return {dq, dkv, dk_shared};
  }
  void release_variables() override { saved = {}; }
};

}  // namespace

at::Tensor attention(const at::Tensor& q, const at::Tensor& kv, const at::Tensor& k_shared,
                     const std::vector<int32_t>& starts, const AttentionShape& shape) {
  const AttentionShape& s = shape;
  const int64_t rows = q.size(0);
  check_tensor("attention q", q, {rows, s.heads * (s.key_dim + s.shared_dim)}, dtype_of(q));
  check_tensor("attention kv", kv, {rows, s.kv_heads * (s.key_dim + s.value_dim)}, dtype_of(q));
  MOLE_CHECK(!starts.empty() && starts.front() == 0 && starts.back() == rows);
  AttentionTensors t{q.detach(), kv.detach(), at::Tensor(), at::Tensor(), at::Tensor()};
  if (s.shared_dim > 0) {
    check_tensor("attention k_shared", k_shared, {rows, s.shared_dim}, dtype_of(q));
    t.k_shared = k_shared.detach();
  }
  at::Tensor out = empty({rows, s.heads * s.value_dim}, dtype_of(q));
  t.out = out.detach();
  const bool record = recording(false, q, kv, k_shared);
  if (record) t.logsumexp = empty({rows, s.heads}, DType::kFloat32);
  const SequenceArgs all = sequence_args(t, starts, s);
  attention(all.args.data(), static_cast<int64_t>(all.args.size()), team());
  if (record) {
    auto node = make_node<AttentionNode>(q, kv, k_shared);
    node->saved = t;
    node->starts = starts;
    node->shape = s;
    torch::autograd::set_history(out, node);
  }
  return out;
}

}  // namespace mole::kernels
