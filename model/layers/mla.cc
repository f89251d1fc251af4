#include "model/layers/mla.h"

#include <cstring>

#include "base/check.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

using kernels::element;
using kernels::team;

namespace {

/// Rows of all segments of a form, one after the other.
int64_t rows_of(const StepContext& step, AttentionForm form) {
  int64_t rows = 0;
  for (const Segment& segment : step.segments) rows += segment.form == form ? segment.num_rows : 0;
  return rows;
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

void copy_segment_rows(const at::Tensor& from, int64_t from_row, const at::Tensor& to,
                       int64_t to_row, int64_t rows) {
  kernels::copy_rows(from.narrow(0, from_row, rows), to.narrow(0, to_row, rows));
}

}  // namespace

Mla::Mla(const MlaConfig& config, const std::string& prefix, ParameterFactory& parameters)
    : config_(config), dtype_(parameters.dtype()), version_(parameters.version()) {
  const int64_t hidden = config.hidden_size, latent = config.kv_lora_rank;
  if (config.q_lora_rank == 0) {
    q_proj_ = parameters.matrix({{prefix + "q_proj.weight", q_row()}}, hidden);
  } else {
    q_a_proj_ = parameters.matrix({{prefix + "q_a_proj.weight", config.q_lora_rank}}, hidden);
    q_a_norm_ = parameters.norm(prefix + "q_a_layernorm.weight", config.q_lora_rank);
    q_b_proj_ = parameters.matrix({{prefix + "q_b_proj.weight", q_row()}}, config.q_lora_rank);
  }
  kv_a_proj_ =
      parameters.matrix({{prefix + "kv_a_proj_with_mqa.weight", entry_elements()}}, hidden);
  kv_a_norm_ = parameters.norm(prefix + "kv_a_layernorm.weight", latent);
  const int64_t per_head = config.qk_nope_head_dim + config.v_head_dim;
  kv_b_proj_ = parameters.matrix({{prefix + "kv_b_proj.weight", config.num_heads * per_head}},
                                 latent, {.keep_plain = true});
  o_proj_ = parameters.matrix({{prefix + "o_proj.weight", hidden}},
                              int64_t{config.num_heads} * config.v_head_dim);
  if (!kv_b_proj_->trainable()) {
    pack_absorbed();
    kv_b_proj_->drop_plain();
  }
}

void Mla::pack_absorbed() {
  if (absorbed_made_ == *version_) return;
  const int64_t nope = config_.qk_nope_head_dim, value = config_.v_head_dim;
  const int64_t latent = config_.kv_lora_rank;
  const at::Tensor& plain = kv_b_proj_->plain();  // [H * (N + V), C]
  key_up_.resize(static_cast<size_t>(config_.num_heads));
  value_up_.resize(static_cast<size_t>(config_.num_heads));
  for (int32_t h = 0; h < config_.num_heads; ++h) {
    const int64_t row = h * (nope + value);
    key_up_[static_cast<size_t>(h)].pack(element(plain, row, 0), dtype_, latent, nope, latent, true,
                                         team());
    value_up_[static_cast<size_t>(h)].pack(element(plain, row + nope, 0), dtype_, value, latent,
                                           latent, false, team());
  }
  absorbed_made_ = *version_;
}

int64_t Mla::resident_bytes() const {
  int64_t bytes = 0;
  for (const auto* weight : {&q_proj_, &q_a_proj_, &q_a_norm_, &q_b_proj_, &kv_a_proj_, &kv_a_norm_,
                             &kv_b_proj_, &o_proj_}) {
    if (*weight != nullptr) bytes += (*weight)->resident_bytes();
  }
  for (const auto& weight : key_up_) bytes += weight.bytes();
  for (const auto& weight : value_up_) bytes += weight.bytes();
  return bytes;
}

at::Tensor Mla::queries(const at::Tensor& x) {
  if (q_proj_ != nullptr) return kernels::linear(x, *q_proj_, dtype_);
  const at::Tensor low = kernels::linear(x, *q_a_proj_, dtype_);
  return kernels::linear(kernels::rms_norm(low, *q_a_norm_, config_.inner_norm_eps), *q_b_proj_,
                         dtype_);
}

at::Tensor Mla::forward(const at::Tensor& x, StepContext& step, int32_t layer) {
  const int32_t nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim;
  const int32_t value = config_.v_head_dim, latent = config_.kv_lora_rank;
  at::Tensor q = queries(x);
  kernels::rope_(q, step.positions,
                 {config_.rope.get(), config_.rope_layout, nope, config_.num_heads, nope + rope});
  const at::Tensor entries = kernels::latent_entry(
      kernels::linear(x, *kv_a_proj_, dtype_), *kv_a_norm_, config_.inner_norm_eps, step.positions,
      *config_.rope, config_.rope_layout);
  at::Tensor out;
  if (step.cache == nullptr && !step.any_absorbed) {
    const at::Tensor kv = kernels::linear(entries.narrow(1, 0, latent), *kv_b_proj_, dtype_);
    out = kernels::attention(q, kv, entries.narrow(1, latent, rope), step.starts,
                             {.heads = config_.num_heads,
                              .kv_heads = config_.num_heads,
                              .key_dim = nope,
                              .shared_dim = rope,
                              .value_dim = value,
                              .key_head_stride = nope + value,
                              .value_first = nope,
                              .value_head_stride = nope + value,
                              .scale = config_.softmax_scale});
  } else {
    write_entries(step, layer, entries);
    out = kernels::empty({x.size(0), int64_t{config_.num_heads} * value}, dtype_);
    attend_expanded(q, entries, step, layer, out);
    attend_absorbed(q, entries, step, layer, out);
  }
  return kernels::linear(out, *o_proj_, dtype_);
}

void Mla::attend_expanded(const at::Tensor& q, const at::Tensor& entries, const StepContext& step,
                          int32_t layer, const at::Tensor& out) {
  const int64_t nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim;
  const int64_t value = config_.v_head_dim, latent = config_.kv_lora_rank;
  std::vector<const Segment*> segments;
  std::vector<ContextBlocks> blocks;
  int64_t rows = 0;
  for (const Segment& segment : step.segments) {
    if (segment.form != AttentionForm::kExpanded || segment.num_rows == 0) continue;
    segments.push_back(&segment);
    blocks.push_back(context_blocks(step, segment, layer, entries));
    rows += segment.context();
  }
  if (segments.empty()) return;
  const at::Tensor latents = kernels::empty({rows, latent}, dtype_);
  rows = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    gather_latents(blocks[i], segments[i]->context(), latents, rows);
    rows += segments[i]->context();
  }
  const at::Tensor kv = kernels::linear(latents, *kv_b_proj_, dtype_);

  std::vector<std::vector<const void*>> keys(segments.size()), values(segments.size());
  std::vector<kernels::AttentionArgs> args;
  rows = 0;
  const int64_t element_bytes = dtype_bytes(dtype_);
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& segment = *segments[i];
    for (int32_t position = 0; position < segment.context(); position += kBlockTokens) {
      keys[i].push_back(element(kv, rows + position, 0));
      values[i].push_back(element(kv, rows + position, nope));
    }
    for (const void*& row : blocks[i].first_rows) {
      row = static_cast<const std::byte*>(row) + latent * element_bytes;  // to the rotated key
    }
    rows += segment.context();
    args.push_back({.dtype = dtype_,
                    .num_queries = segment.num_rows,
                    .first_position = segment.first_position,
                    .num_heads = config_.num_heads,
                    .num_kv_heads = config_.num_heads,
                    .key_dim = static_cast<int32_t>(nope),
                    .shared_dim = static_cast<int32_t>(rope),
                    .value_dim = static_cast<int32_t>(value),
                    .scale = config_.softmax_scale,
                    .q = element(q, segment.first_row, 0),
                    .q_row_stride = q.stride(0),
                    .q_head_stride = nope + rope,
                    .q_shared = element(q, segment.first_row, nope),
                    .q_shared_row_stride = q.stride(0),
                    .q_shared_head_stride = nope + rope,
                    .key_blocks = keys[i].data(),
                    .value_blocks = values[i].data(),
                    .shared_blocks = blocks[i].first_rows.data(),
                    .key_row_stride = kv.stride(0),
                    .key_head_stride = nope + value,
                    .value_row_stride = kv.stride(0),
                    .value_head_stride = nope + value,
                    .shared_row_stride = blocks[i].row_stride,
                    .out = element(out, segment.first_row, 0),
                    .out_row_stride = out.stride(0),
                    .out_head_stride = value});
  }
  kernels::attention(args.data(), static_cast<int64_t>(args.size()), team());
}

void Mla::attend_absorbed(const at::Tensor& q, const at::Tensor& entries, const StepContext& step,
                          int32_t layer, const at::Tensor& out) {
  const int64_t nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim;
  const int64_t value = config_.v_head_dim, latent = config_.kv_lora_rank, key = latent + rope;
  const int64_t rows = rows_of(step, AttentionForm::kAbsorbed);
  if (rows == 0) return;
  pack_absorbed();

  // The absorbed rows one after the other, so that each head's product is one call.
  const at::Tensor q_rows = kernels::empty({rows, q.size(1)}, dtype_);
  int64_t row = 0;
  for (const Segment& segment : step.segments) {
    if (segment.form != AttentionForm::kAbsorbed) continue;
    copy_segment_rows(q, segment.first_row, q_rows, row, segment.num_rows);
    row += segment.num_rows;
  }
  const int64_t heads = config_.num_heads;
  const at::Tensor q_latent = kernels::empty({rows, heads * key}, dtype_);
  for (int64_t h = 0; h < heads; ++h) {
    const int64_t q_first = h * (nope + rope);
    multiply_columns(q_rows, q_first, key_up_[static_cast<size_t>(h)], q_latent, h * key);
    kernels::copy_rows(q_rows.narrow(1, q_first + nope, rope),
                       q_latent.narrow(1, h * key + latent, rope));
  }

  const at::Tensor o_latent = kernels::empty({rows, heads * latent}, dtype_);
  std::vector<ContextBlocks> blocks;
  blocks.reserve(step.segments.size());
  std::vector<kernels::AttentionArgs> args;
  row = 0;
  for (const Segment& segment : step.segments) {
    if (segment.form != AttentionForm::kAbsorbed || segment.num_rows == 0) continue;
    const ContextBlocks& keys = blocks.emplace_back(context_blocks(step, segment, layer, entries));
    args.push_back({.dtype = dtype_,
                    .num_queries = segment.num_rows,
                    .first_position = segment.first_position,
                    .num_heads = config_.num_heads,
                    .num_kv_heads = 1,
                    .key_dim = static_cast<int32_t>(key),
                    .value_dim = static_cast<int32_t>(latent),
                    .scale = config_.softmax_scale,
                    .q = element(q_latent, row, 0),
                    .q_row_stride = q_latent.stride(0),
                    .q_head_stride = key,
                    .key_blocks = keys.first_rows.data(),
                    .value_blocks = keys.first_rows.data(),  // the key's first C numbers
                    .key_row_stride = keys.row_stride,
                    .value_row_stride = keys.row_stride,
                    .out = element(o_latent, row, 0),
                    .out_row_stride = o_latent.stride(0),
                    .out_head_stride = latent});
    row += segment.num_rows;
  }
  kernels::attention(args.data(), static_cast<int64_t>(args.size()), team());

  const at::Tensor o_rows = kernels::empty({rows, heads * value}, dtype_);
  for (int64_t h = 0; h < heads; ++h) {
    multiply_columns(o_latent, h * latent, value_up_[static_cast<size_t>(h)], o_rows, h * value);
  }
  row = 0;
  for (const Segment& segment : step.segments) {
    if (segment.form != AttentionForm::kAbsorbed) continue;
    copy_segment_rows(o_rows, row, out, segment.first_row, segment.num_rows);
    row += segment.num_rows;
  }
}

}  // namespace mole::model
