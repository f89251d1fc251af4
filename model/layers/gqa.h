// Grouped-query attention (arXiv 2305.13245): each group of query heads shares a head of keys and
// values; one group is multi-query, as many as heads is multi-head. The cache holds one row
// [keys of all heads | values of all heads] a token, keys already turned.
#pragma once

#include <memory>
#include <string>

#include "kernels/rope/rope.h"
#include "model/layers/attention_layer.h"
#include "model/layers/parameters.h"

namespace mole::model {

struct GqaConfig {
  int32_t hidden_size = 0, num_heads = 0, num_kv_heads = 0, head_dim = 0;
  float softmax_scale = 1.0f;
  kernels::RopeLayout rope_layout = kernels::RopeLayout::kHalfSplit;
  std::shared_ptr<const kernels::RopeTable> rope;
};

class Gqa final : public AttentionLayer {
 public:
  /// `prefix` is for example "model.layers.0.self_attn.".
  Gqa(const GqaConfig& config, const std::string& prefix, ParameterFactory& parameters);

  int32_t entry_elements() const override { return 2 * config_.num_kv_heads * config_.head_dim; }
  at::Tensor forward(const at::Tensor& x, StepContext& step, int32_t layer) override;
  int64_t resident_bytes() const override;

 private:
  void attend(const at::Tensor& q, const at::Tensor& entries, StepContext& step, int32_t layer,
              const at::Tensor& out);

  GqaConfig config_;
  DType dtype_;
  std::unique_ptr<kernels::Weight> q_proj_, kv_proj_, o_proj_;
};

}  // namespace mole::model
