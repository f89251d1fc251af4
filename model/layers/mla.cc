#include "model/layers/mla.h"

#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

using kernels::element;
using kernels::team;

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
                                 latent, {.keep_plain = true, .quantize = false});
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

at::Tensor Mla::forward(const at::Tensor& x, StepContext& step, int32_t layer) {
  const int32_t nope = config_.qk_nope_head_dim, rope = config_.qk_rope_head_dim;
  const int32_t value = config_.v_head_dim, latent = config_.kv_lora_rank;
  auto [q, kv_a] =
      kernels::linear_pair(x, q_proj_ != nullptr ? *q_proj_ : *q_a_proj_, *kv_a_proj_, dtype_);
  if (q_proj_ == nullptr) {
    q = kernels::linear(kernels::rms_norm(q, *q_a_norm_, config_.inner_norm_eps), *q_b_proj_,
                        dtype_);
  }
  const at::Tensor entries =
      kernels::latent_entry(kv_a, *kv_a_norm_, config_.inner_norm_eps, step.positions,
                            *config_.rope, config_.rope_layout);
  at::Tensor out;
  if (step.whole_sequences()) {
    kernels::rope_(q, step.positions,
                   {config_.rope.get(), config_.rope_layout, nope, config_.num_heads, nope + rope});
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
    attend_absorbed(q, entries, step, layer, out);
    attend_expanded(q, entries, step, layer, out);
  }
  return kernels::linear(out, *o_proj_, dtype_);
}

}  // namespace mole::model
