// Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434, section 2.1 and appendix C) in both
// of its forms. The cache holds one row [latent | rotated key] a token.
//
// Shape letters: T tokens, D hidden, H heads, N nope, R rope, V value dimensions, C latent rank.
//   expanded: k_nope, v = kv_b latent for every token of the context, attention per head.
//   absorbed: q_nope goes through kv_b's key part, attends to latents, the sum through its value
//   part.
// Numerics: q_latent and o_latent of the absorbed form are rounded to the model's type.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/rope/rope.h"
#include "model/layers/attention_layer.h"
#include "model/layers/parameters.h"

namespace mole::model {

struct MlaConfig {
  int32_t hidden_size = 0, num_heads = 0;
  int32_t q_lora_rank = 0;  // 0 = queries straight from the hidden state
  int32_t kv_lora_rank = 0, qk_nope_head_dim = 0, qk_rope_head_dim = 0, v_head_dim = 0;
  float inner_norm_eps = 1e-6f;  // of q_a_layernorm and kv_a_layernorm
  float softmax_scale = 1.0f;
  kernels::RopeLayout rope_layout = kernels::RopeLayout::kInterleaved;
  std::shared_ptr<const kernels::RopeTable> rope;
};

class Mla final : public AttentionLayer {
 public:
  /// `prefix` is for example "model.layers.0.self_attn.".
  Mla(const MlaConfig& config, const std::string& prefix, ParameterFactory& parameters);

  int32_t entry_elements() const override {
    return config_.kv_lora_rank + config_.qk_rope_head_dim;
  }
  at::Tensor forward(const at::Tensor& x, StepContext& step, int32_t layer) override;
  int64_t resident_bytes() const override;

 private:
  int64_t q_row() const {
    return int64_t{config_.num_heads} * (config_.qk_nope_head_dim + config_.qk_rope_head_dim);
  }
  at::Tensor queries(const at::Tensor& x);
  void attend_expanded(const at::Tensor& q, const at::Tensor& entries, const StepContext& step,
                       int32_t layer, const at::Tensor& out);
  void attend_absorbed(const at::Tensor& q, const at::Tensor& entries, const StepContext& step,
                       int32_t layer, const at::Tensor& out);
  void pack_absorbed();
  /// q rows [T, H * (N + R)] -> [T, H * (C + R)]: the nope part through kv_b's key part.
  at::Tensor latent_queries(const at::Tensor& q);
  /// What doesn't depend on where the other operands lie.
  kernels::AttentionArgs expanded_args(const Segment& segment, const at::Tensor& q,
                                       const at::Tensor& out) const;
  kernels::AttentionArgs absorbed_args(const Segment& segment, const ContextBlocks& keys) const;

  MlaConfig config_;
  DType dtype_;
  std::shared_ptr<const uint64_t> version_;
  uint64_t absorbed_made_ = ~uint64_t{0};
  std::unique_ptr<kernels::Weight> q_proj_, q_a_proj_, q_a_norm_, q_b_proj_;
  std::unique_ptr<kernels::Weight> kv_a_proj_, kv_a_norm_, kv_b_proj_, o_proj_;
  std::vector<kernels::PackedWeight> key_up_;    // [H] of [C, N]: q_latent = key_up q_nope
  std::vector<kernels::PackedWeight> value_up_;  // [H] of [V, C]
};

}  // namespace mole::model
