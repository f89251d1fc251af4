#include "model/layers/gqa.h"

#include "kernels/attention/attention.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

Gqa::Gqa(const GqaConfig& config, const std::string& prefix, ParameterFactory& parameters)
    : config_(config), dtype_(parameters.dtype()) {
  const int64_t hidden = config.hidden_size, head = config.head_dim;
  q_proj_ = parameters.matrix({{prefix + "q_proj.weight", config.num_heads * head}}, hidden);
  kv_proj_ = parameters.matrix({{prefix + "k_proj.weight", config.num_kv_heads * head},
                                {prefix + "v_proj.weight", config.num_kv_heads * head}},
                               hidden);
  o_proj_ = parameters.matrix({{prefix + "o_proj.weight", hidden}}, config.num_heads * head);
}

int64_t Gqa::resident_bytes() const {
  return q_proj_->resident_bytes() + kv_proj_->resident_bytes() + o_proj_->resident_bytes();
}

at::Tensor Gqa::forward(const at::Tensor& x, StepContext& step, int32_t layer) {
  const int32_t head = config_.head_dim;
  auto [q, entries] = kernels::linear_pair(x, *q_proj_, *kv_proj_, dtype_);
  kernels::rope_(q, step.positions,
                 {config_.rope.get(), config_.rope_layout, 0, config_.num_heads, head});
  kernels::rope_(entries, step.positions,
                 {config_.rope.get(), config_.rope_layout, 0, config_.num_kv_heads, head});
  at::Tensor out;
  if (step.whole_sequences()) {
    out = kernels::attention(q, entries, at::Tensor(), step.starts,
                             {.heads = config_.num_heads,
                              .kv_heads = config_.num_kv_heads,
                              .key_dim = head,
                              .value_dim = head,
                              .key_head_stride = head,
                              .value_first = int64_t{config_.num_kv_heads} * head,
                              .value_head_stride = head,
                              .scale = config_.softmax_scale});
  } else {
    write_entries(step, layer, entries);
    out = kernels::empty({x.size(0), int64_t{config_.num_heads} * head}, dtype_);
    attend(q, entries, step, layer, out);
  }
  return kernels::linear(out, *o_proj_, dtype_);
}

void Gqa::attend(const at::Tensor& q, const at::Tensor& entries, StepContext& step, int32_t layer,
                 const at::Tensor& out) {
  const int64_t head = config_.head_dim;
  const int64_t value_bytes = config_.num_kv_heads * head * dtype_bytes(dtype_);
  const int64_t row_stride = entry_stride(step, entries) / dtype_bytes(dtype_);
  StepScratch& scratch = step.scratch;
  scratch.attention.clear();
  for (std::vector<const void*>* blocks : {&scratch.keys, &scratch.values}) {
    blocks->clear();
    blocks->reserve(num_blocks(step.expanded) + num_blocks(step.absorbed));
  }
  auto add = [&](const Segment& segment) {
    scratch.attention.push_back(
        {.dtype = dtype_,
         .num_queries = segment.num_rows,
         .first_position = segment.first_position,
         .num_heads = config_.num_heads,
         .num_kv_heads = config_.num_kv_heads,
         .key_dim = config_.head_dim,
         .value_dim = config_.head_dim,
         .scale = config_.softmax_scale,
         .q = kernels::element(q, segment.first_row, 0),
         .q_row_stride = q.stride(0),
         .q_head_stride = head,
         .key_blocks = append_blocks(step, segment, layer, entries, 0, &scratch.keys),
         .value_blocks = append_blocks(step, segment, layer, entries, value_bytes, &scratch.values),
         .key_row_stride = row_stride,
         .key_head_stride = head,
         .value_row_stride = row_stride,
         .value_head_stride = head,
         .out = kernels::element(out, segment.first_row, 0),
         .out_row_stride = out.stride(0),
         .out_head_stride = head});
  };
  for (const Segment& segment : step.expanded) add(segment);
  for (const Segment& segment : step.absorbed) add(segment);
  kernels::attention(scratch.attention.data(), static_cast<int64_t>(scratch.attention.size()),
                     kernels::team());
}

}  // namespace mole::model
