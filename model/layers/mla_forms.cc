// The two forms of latent attention over a step's segments, without gradients: keys come from
// pages, or from the batch itself when the trainer scores.
#include <cstring>

#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"
#include "model/layers/mla.h"

namespace mole::model {

using kernels::element;
using kernels::team;

namespace {

using SegmentList = std::vector<const Segment*>;

SegmentList segments_of(const StepContext& step, AttentionForm form) {
  SegmentList found;
  for (const Segment& segment : step.segments) {
    if (segment.form == form && segment.num_rows > 0) found.push_back(&segment);
  }
  return found;
}

/// Copies the latents of positions [0, context) from blocks of 64 rows to rows of `out`.
void gather_latents(const ContextBlocks& blocks, int32_t context, const at::Tensor& out,
                    int64_t first_row) {
  const int64_t element_bytes = static_cast<int64_t>(out.element_size());
  const size_t row_bytes = static_cast<size_t>(out.size(1) * element_bytes);
  for (int32_t position = 0; position < context; ++position) {
    const auto* block = static_cast<const std::byte*>(
        blocks.first_rows[static_cast<size_t>(position / kBlockTokens)]);
    std::memcpy(element(out, first_row + position, 0),
                block + (position % kBlockTokens) * blocks.row_stride * element_bytes, row_bytes);
  }
}

/// The same blocks, `bytes` further into each row.
ContextBlocks shifted(ContextBlocks blocks, int64_t bytes) {
  for (const void*& row : blocks.first_rows) row = static_cast<const std::byte*>(row) + bytes;
  return blocks;
}

/// Blocks of consecutive rows of a matrix from `row` on, starting at `column`.
ContextBlocks matrix_blocks(const at::Tensor& matrix, int64_t row, int64_t column,
                            int32_t context) {
  ContextBlocks blocks;
  blocks.row_stride = matrix.stride(0);
  for (int32_t position = 0; position < context; position += kBlockTokens) {
    blocks.first_rows.push_back(element(matrix, row + position, column));
  }
  return blocks;
}

/// y rows, columns [y_first, …) = x rows, columns [x_first, …) times weight^T.
void multiply_columns(const at::Tensor& x, int64_t x_first, const kernels::PackedWeight& weight,
                      const at::Tensor& y, int64_t y_first) {
  kernels::linear({.x = element(x, 0, x_first),
                   .rows = x.size(0),
                   .x_stride = x.stride(0),
                   .weight = &weight,
                   .y = element(y, 0, y_first),
                   .y_dtype = kernels::dtype_of(y),
                   .y_stride = y.stride(0)},
                  team());
}

/// Rows of the segments, one after the other: from `x` to `packed`, or back.
void pack_rows(const SegmentList& segments, const at::Tensor& x, const at::Tensor& packed) {
  int64_t row = 0;
  for (const Segment* segment : segments) {
    kernels::copy_rows(x.narrow(0, segment->first_row, segment->num_rows),
                       packed.narrow(0, row, segment->num_rows));
    row += segment->num_rows;
  }
}
void unpack_rows(const SegmentList& segments, const at::Tensor& packed, const at::Tensor& x) {
  int64_t row = 0;
  for (const Segment* segment : segments) {
    kernels::copy_rows(packed.narrow(0, row, segment->num_rows),
                       x.narrow(0, segment->first_row, segment->num_rows));
    row += segment->num_rows;
  }
}

}  // namespace

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

void Mla::attend_expanded(const at::Tensor& q, const at::Tensor& entries, const StepContext& step,
                          int32_t layer, const at::Tensor& out) {
  const SegmentList segments = segments_of(step, AttentionForm::kExpanded);
  if (segments.empty()) return;
  const int64_t latent = config_.kv_lora_rank;
  int64_t rows = 0;
  for (const Segment* segment : segments) rows += segment->context();
  const at::Tensor latents = kernels::empty({rows, latent}, dtype_);
  std::vector<ContextBlocks> pages;
  rows = 0;
  for (const Segment* segment : segments) {
    pages.push_back(context_blocks(step, *segment, layer, entries));
    gather_latents(pages.back(), segment->context(), latents, rows);
    rows += segment->context();
  }
  const at::Tensor kv = kernels::linear(latents, *kv_b_proj_, dtype_);

  std::vector<ContextBlocks> keys, values, rotated;  // filled before any pointer is taken
  rows = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    const int32_t context = segments[i]->context();
    keys.push_back(matrix_blocks(kv, rows, 0, context));
    values.push_back(matrix_blocks(kv, rows, config_.qk_nope_head_dim, context));
    rotated.push_back(shifted(std::move(pages[i]), latent * dtype_bytes(dtype_)));
    rows += context;
  }
  std::vector<kernels::AttentionArgs> all;
  for (size_t i = 0; i < segments.size(); ++i) {
    kernels::AttentionArgs args = expanded_args(*segments[i], q, out);
    args.key_blocks = keys[i].first_rows.data();
    args.value_blocks = values[i].first_rows.data();
    args.shared_blocks = rotated[i].first_rows.data();
    args.shared_row_stride = rotated[i].row_stride;
    all.push_back(args);
  }
  kernels::attention(all.data(), static_cast<int64_t>(all.size()), team());
}

at::Tensor Mla::latent_queries(const at::Tensor& q) {
  const int64_t nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim;
  const int64_t latent = config_.kv_lora_rank, key = entry_elements();
  at::Tensor q_latent = kernels::empty({q.size(0), config_.num_heads * key}, dtype_);
  for (int64_t h = 0; h < config_.num_heads; ++h) {
    const int64_t first = h * (nope + rope);
    multiply_columns(q, first, key_up_[static_cast<size_t>(h)], q_latent, h * key);
  }
  const int64_t all = q.size(0) * config_.num_heads;  // every head of every row as a row of its own
  kernels::copy_rows(q.view({all, nope + rope}).narrow(1, nope, rope),
                     q_latent.view({all, key}).narrow(1, latent, rope));
  return q_latent;
}

kernels::AttentionArgs Mla::absorbed_args(const Segment& segment, const ContextBlocks& keys) const {
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
          .key_blocks = keys.first_rows.data(),
          .value_blocks = keys.first_rows.data(),  // the key's first numbers are the value
          .key_row_stride = keys.row_stride,
          .value_row_stride = keys.row_stride,
          .out_row_stride = int64_t{config_.num_heads} * config_.kv_lora_rank,
          .out_head_stride = config_.kv_lora_rank};
}

void Mla::attend_absorbed(const at::Tensor& q, const at::Tensor& entries, const StepContext& step,
                          int32_t layer, const at::Tensor& out) {
  const SegmentList segments = segments_of(step, AttentionForm::kAbsorbed);
  if (segments.empty()) return;
  pack_absorbed();
  int64_t rows = 0;
  for (const Segment* segment : segments) rows += segment->num_rows;
  // The rows one after the other, so that each head's product is one call; in a step that only
  // decodes they already are.
  const bool only = rows == q.size(0);
  const at::Tensor q_rows = only ? q : kernels::empty({rows, q.size(1)}, dtype_);
  if (!only) pack_rows(segments, q, q_rows);
  const at::Tensor q_latent = latent_queries(q_rows);

  const int64_t heads = config_.num_heads, latent = config_.kv_lora_rank;
  const at::Tensor o_latent = kernels::empty({rows, heads * latent}, dtype_);
  std::vector<ContextBlocks> keys;
  for (const Segment* segment : segments) {
    keys.push_back(context_blocks(step, *segment, layer, entries));
  }
  std::vector<kernels::AttentionArgs> all;
  int64_t row = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    kernels::AttentionArgs args = absorbed_args(*segments[i], keys[i]);
    args.q = element(q_latent, row, 0);
    args.out = element(o_latent, row, 0);
    all.push_back(args);
    row += segments[i]->num_rows;
  }
  kernels::attention(all.data(), static_cast<int64_t>(all.size()), team());

  const int64_t value = config_.v_head_dim;
  const at::Tensor o_rows = only ? out : kernels::empty({rows, heads * value}, dtype_);
  for (int64_t h = 0; h < heads; ++h) {
    multiply_columns(o_latent, h * latent, value_up_[static_cast<size_t>(h)], o_rows, h * value);
  }
  if (!only) unpack_rows(segments, o_rows, out);
}

}  // namespace mole::model
