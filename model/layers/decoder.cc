#include "model/layers/decoder.h"

#include <ATen/ops/add.h>

#include "base/check.h"
#include "kernels/torch/ops.h"

namespace mole::model {

Decoder::Decoder(const DecoderConfig& config, ModelInfo info, ParameterFactory& parameters)
    : config_(config), info_(std::move(info)) {
  const bool tied = config.tie_word_embeddings;
  embedding_ =
      parameters.matrix({{"model.embed_tokens.weight", config.vocab_size}}, config.hidden_size,
                        {.keep_plain = true, .pack = tied, .head = tied});
  if (!tied) {
    head_ = parameters.matrix({{"lm_head.weight", config.vocab_size}}, config.hidden_size,
                              {.head = true});
  }
  final_norm_ = parameters.norm("model.norm.weight", config.hidden_size);
}

void Decoder::add_layer(DecoderLayer layer) {
  info_.kv_entry_elements = layer.attention->entry_elements();
  layers_.push_back(std::move(layer));
}

void Decoder::finish(const ParameterFactory& parameters, int64_t inactive_parameters) {
  MOLE_CHECK_EQ(static_cast<int32_t>(layers_.size()), info_.num_layers);
  info_.dtype = parameters.dtype();
  info_.num_parameters = parameters.num_parameters();
  info_.num_active_parameters = parameters.num_parameters() - inactive_parameters;
  info_.weight_bytes = embedding_->resident_bytes() + final_norm_->resident_bytes() +
                       (head_ != nullptr ? head_->resident_bytes() : 0);
  for (const DecoderLayer& layer : layers_) {
    info_.weight_bytes += layer.input_norm->resident_bytes() +
                          layer.post_attention_norm->resident_bytes() +
                          layer.attention->resident_bytes() + layer.feed_forward->resident_bytes();
  }
}

at::Tensor Decoder::hidden(std::span<const TokenId> ids, StepContext& step) {
  at::Tensor x = kernels::embedding(ids, *embedding_);
  for (size_t i = 0; i < layers_.size(); ++i) {
    DecoderLayer& layer = layers_[i];
    const at::Tensor attended = layer.attention->forward(
        kernels::rms_norm(x, *layer.input_norm, eps()), step, static_cast<int32_t>(i));
    x = at::add(x, attended);
    const at::Tensor fed =
        layer.feed_forward->forward(kernels::rms_norm(x, *layer.post_attention_norm, eps()), step);
    x = at::add(x, fed);
  }
  return x;
}

at::Tensor Decoder::normalize(const at::Tensor& hidden) {
  return kernels::rms_norm(hidden, *final_norm_, eps());
}

}  // namespace mole::model
