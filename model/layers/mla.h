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
#include <span>
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
  int32_t entry_rope_elements() const override { return config_.qk_rope_head_dim; }
  at::Tensor forward(const at::Tensor& x, StepContext& step, int32_t layer) override;
  int64_t resident_bytes() const override;

 private:
  int64_t q_row() const {
    return int64_t{config_.num_heads} * (config_.qk_nope_head_dim + config_.qk_rope_head_dim);
  }
  /// Fills `out`'s rows of the segments of either form. `q` is not turned yet.
  void attend_expanded(const at::Tensor& q, const at::Tensor& entries, StepContext& step,
                       int32_t layer, const at::Tensor& out);
  void attend_absorbed(const at::Tensor& q, const at::Tensor& entries, StepContext& step,
                       int32_t layer, const at::Tensor& out);

  void attend_expanded_group(std::span<const Segment> segments, const at::Tensor& q,
                             const at::Tensor& entries, StepContext& step, int32_t layer,
                             const at::Tensor& out);
  /// The latents of all segments' contexts, one after the other: [sum of contexts, C].
  at::Tensor gather_latents(std::span<const Segment> segments, const at::Tensor& entries,
                            StepContext& step, int32_t layer);
  kernels::RopeArgs rope_of(const at::Tensor& q, const Segment& segment,
                            const StepContext& step) const;

  void pack_absorbed();
  /// The absorbed rows of q [T, H * (N + R)] -> [rows, H * (C + R)]: the nope part through kv_b's
  /// key part, the rotary part turned.
  at::Tensor latent_queries(const at::Tensor& q, StepContext& step);
  /// Head h's columns begin at h * head_stride; row r is row rows[r] of the matrix, or r.
  struct HeadColumns {
    const at::Tensor& matrix;
    int64_t head_stride;
    const int32_t* rows = nullptr;
  };
  /// Each head's product with its own weight, all in one parallel region.
  void multiply_heads(const std::vector<kernels::PackedWeight>& weights, const HeadColumns& x,
                      const HeadColumns& y, int64_t rows, StepContext& step);
  /// What doesn't depend on where the other operands lie.
  kernels::AttentionArgs expanded_args(const Segment& segment, const at::Tensor& q,
                                       const at::Tensor& out) const;
  kernels::AttentionArgs absorbed_args(const Segment& segment) const;

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
