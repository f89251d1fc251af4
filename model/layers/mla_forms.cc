// The two forms of latent attention over a step's segments, without gradients: keys come from
// pages, or from the batch itself when the trainer scores.
#include "kernels/kv_entry/kv_entry.h"
#include "kernels/linear/linear_impl.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"
#include "model/layers/mla.h"
#include "model/workspace.h"

namespace mole::model {

using kernels::element;
using kernels::team;

namespace {

int64_t context_rows(std::span<const Segment> segments) {
  int64_t rows = 0;
  for (const Segment& segment : segments) rows += segment.context();
  return rows;
}

/// Pointers to rows row, row + 64, … of a matrix, at `column`.
const void* const* append_matrix_blocks(const at::Tensor& matrix, int64_t row, int64_t column,
                                        int32_t context, std::vector<const void*>* blocks) {
  const size_t first = blocks->size();
  for (int32_t position = 0; position < context; position += kBlockTokens) {
    blocks->push_back(element(matrix, row + position, column));
  }
  return blocks->data() + first;
}

}  // namespace

kernels::RopeArgs Mla::rope_of(const at::Tensor& q, const Segment& segment,
                               const StepContext& step) const {
  const int64_t q_head = config_.qk_nope_head_dim + config_.qk_rope_head_dim;
  return {.x = element(q, segment.first_row, config_.qk_nope_head_dim),
          .dtype = dtype_,
          .rows = segment.num_rows,
          .heads = config_.num_heads,
          .row_stride = q.stride(0),
          .head_stride = q_head,
          .positions = step.positions.data_ptr<int32_t>() + segment.first_row,
          .table = config_.rope.get(),
          .layout = config_.rope_layout};
}

kernels::AttentionArgs Mla::expanded_args(const Segment& segment, const at::Tensor& q,
                                          const at::Tensor& out) const {
  const int64_t q_head = config_.qk_nope_head_dim + config_.qk_rope_head_dim;
  const int64_t kv_head = config_.qk_nope_head_dim + config_.v_head_dim;
  return {.dtype = dtype_,
          .num_queries = segment.num_rows,
          .first_position = segment.first_position,
          .num_heads = config_.num_heads,
          .num_kv_heads = config_.num_heads,
          .key_dim = config_.qk_nope_head_dim,
          .shared_dim = config_.qk_rope_head_dim,
          .value_dim = config_.v_head_dim,
          .scale = config_.softmax_scale,
          .q = element(q, segment.first_row, 0),
          .q_row_stride = q.stride(0),
          .q_head_stride = q_head,
          .q_shared = element(q, segment.first_row, config_.qk_nope_head_dim),
          .q_shared_row_stride = q.stride(0),
          .q_shared_head_stride = q_head,
          .key_row_stride = config_.num_heads * kv_head,
          .key_head_stride = kv_head,
          .value_row_stride = config_.num_heads * kv_head,
          .value_head_stride = kv_head,
          .out = element(out, segment.first_row, 0),
          .out_row_stride = out.stride(0),
          .out_head_stride = config_.v_head_dim};
}

void Mla::attend_expanded(const at::Tensor& q, const at::Tensor& entries, StepContext& step,
                          int32_t layer, const at::Tensor& out) {
  std::span<const Segment> left = step.expanded;
  for (const Segment& segment : left) kernels::rope(rope_of(q, segment, step), team());
  while (!left.empty()) {
    size_t count = 1;
    int64_t rows = left[0].context();
    while (count < left.size() && rows + left[count].context() <= kExpandedRows) {
      rows += left[count++].context();
    }
    attend_expanded_group(left.first(count), q, entries, step, layer, out);
    left = left.subspan(count);
  }
}

at::Tensor Mla::gather_latents(std::span<const Segment> segments, const at::Tensor& entries,
                               StepContext& step, int32_t layer) {
  const int64_t latent = config_.kv_lora_rank;
  const at::Tensor latents = kernels::empty({context_rows(segments), latent}, dtype_);
  StepScratch& scratch = step.scratch;
  scratch.reads.clear();
  scratch.shared.clear();
  scratch.shared.reserve(num_blocks(segments));
  int64_t row = 0;
  for (const Segment& segment : segments) {
    scratch.reads.push_back(
        {.entry = entry_shape(step, entries, config_.qk_rope_head_dim),
         .blocks = append_blocks(step, segment, layer, entries, 0, &scratch.shared),
         .entry_stride = entry_stride(step, entries),
         .num_rows = segment.context(),
         .columns = latent,
         .out = element(latents, row, 0),
         .out_stride = latents.stride(0)});
    row += segment.context();
  }
  kernels::kv_read(scratch.reads.data(), static_cast<int64_t>(scratch.reads.size()), team());
  return latents;
}

void Mla::attend_expanded_group(std::span<const Segment> segments, const at::Tensor& q,
                                const at::Tensor& entries, StepContext& step, int32_t layer,
                                const at::Tensor& out) {
  const at::Tensor kv =
      kernels::linear(gather_latents(segments, entries, step, layer), *kv_b_proj_, dtype_);
  StepScratch& scratch = step.scratch;
  const kernels::KvEntryShape entry = entry_shape(step, entries, config_.qk_rope_head_dim);
  scratch.attention.clear();
  for (std::vector<const void*>* blocks : {&scratch.keys, &scratch.values, &scratch.shared}) {
    blocks->clear();
    blocks->reserve(num_blocks(segments));
  }
  int64_t row = 0;
  for (const Segment& segment : segments) {
    const int32_t context = segment.context();
    kernels::AttentionArgs args = expanded_args(segment, q, out);
    args.key_blocks = append_matrix_blocks(kv, row, 0, context, &scratch.keys);
    args.value_blocks =
        append_matrix_blocks(kv, row, config_.qk_nope_head_dim, context, &scratch.values);
    args.shared_blocks =
        append_blocks(step, segment, layer, entries, entry.rope_offset(), &scratch.shared);
    args.shared_row_stride = entry_stride(step, entries) / dtype_bytes(dtype_);
    scratch.attention.push_back(args);
    row += context;
  }
  kernels::attention(scratch.attention.data(), static_cast<int64_t>(scratch.attention.size()),
                     team());
}

void Mla::multiply_heads(const std::vector<kernels::PackedWeight>& weights, const HeadColumns& x,
                         const HeadColumns& y, int64_t rows, StepContext& step) {
  std::vector<kernels::LinearArgs>& products = step.scratch.products;
  products.clear();
  for (int64_t h = 0; h < config_.num_heads; ++h) {
    products.push_back({.x = element(x.matrix, 0, h * x.head_stride),
                        .rows = rows,
                        .x_stride = x.matrix.stride(0),
                        .weight = &weights[static_cast<size_t>(h)],
                        .y = element(y.matrix, 0, h * y.head_stride),
                        .y_dtype = dtype_,
                        .y_stride = y.matrix.stride(0),
                        .x_rows = x.rows,
                        .y_rows = y.rows});
  }
  kernels::linear_many(products, team());
}

at::Tensor Mla::latent_queries(const at::Tensor& q, StepContext& step) {
  const int64_t nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim;
  const int64_t latent = config_.kv_lora_rank, key = entry_elements();
  const int64_t rows = static_cast<int64_t>(step.absorbed_rows.size());
  const int32_t* from_rows = rows == q.size(0) ? nullptr : step.absorbed_rows.data();
  const at::Tensor q_latent = kernels::empty({rows, config_.num_heads * key}, dtype_);
  multiply_heads(key_up_, {q, nope + rope, from_rows}, {q_latent, key}, rows, step);
  kernels::rope({.x = element(q_latent, 0, latent),
                 .dtype = dtype_,
                 .rows = rows,
                 .heads = config_.num_heads,
                 .row_stride = q_latent.stride(0),
                 .head_stride = key,
                 .positions = step.absorbed_positions.data(),
                 .table = config_.rope.get(),
                 .layout = config_.rope_layout,
                 .from = element(q, 0, nope),
                 .from_row_stride = q.stride(0),
                 .from_head_stride = nope + rope,
                 .from_rows = from_rows},
                team());
  return q_latent;
}

kernels::AttentionArgs Mla::absorbed_args(const Segment& segment) const {
  return {.dtype = dtype_,
          .num_queries = segment.num_rows,
          .first_position = segment.first_position,
          .num_heads = config_.num_heads,
          .num_kv_heads = 1,
          .key_dim = entry_elements(),
          .value_dim = config_.kv_lora_rank,
          .scale = config_.softmax_scale,
          .q_row_stride = int64_t{config_.num_heads} * entry_elements(),
          .q_head_stride = entry_elements(),
          .out_row_stride = int64_t{config_.num_heads} * config_.kv_lora_rank,
          .out_head_stride = config_.kv_lora_rank};
}

void Mla::attend_absorbed(const at::Tensor& q, const at::Tensor& entries, StepContext& step,
                          int32_t layer, const at::Tensor& out) {
  if (step.absorbed.empty()) return;
  pack_absorbed();
  const at::Tensor q_latent = latent_queries(q, step);
  const int64_t heads = config_.num_heads, latent = config_.kv_lora_rank, rows = q_latent.size(0);
  const at::Tensor o_latent = kernels::empty({rows, heads * latent}, dtype_);
  const kernels::KvEntryShape entry = entry_shape(step, entries, config_.qk_rope_head_dim);
  StepScratch& scratch = step.scratch;
  scratch.attention.clear();
  scratch.keys.clear();
  scratch.keys.reserve(num_blocks(step.absorbed));
  int64_t row = 0;
  for (const Segment& segment : step.absorbed) {
    kernels::AttentionArgs args = absorbed_args(segment);
    args.q = element(q_latent, row, 0);
    args.out = element(o_latent, row, 0);
    args.key_blocks = append_blocks(step, segment, layer, entries, 0, &scratch.keys);
    args.key_format = entry.format;
    args.value_blocks = args.key_blocks;  // the key's first numbers are the value
    args.key_row_stride = args.value_row_stride = entry_stride(step, entries) / dtype_bytes(dtype_);
    scratch.attention.push_back(args);
    row += segment.num_rows;
  }
  kernels::attention(scratch.attention.data(), static_cast<int64_t>(scratch.attention.size()),
                     team());
  const int32_t* to_rows = rows == q.size(0) ? nullptr : step.absorbed_rows.data();
  multiply_heads(value_up_, {o_latent, latent}, {out, config_.v_head_dim, to_rows}, rows, step);
}

}  // namespace mole::model
