#include "model/layers/decoder.h"

#include "base/check.h"
#include "kernels/torch/ops.h"
#include "kernels/torch/tensors.h"

namespace mole::model {

namespace {

int64_t resident_bytes(const DecoderLayer& layer) {
  return layer.input_norm->resident_bytes() + layer.post_attention_norm->resident_bytes() +
         layer.attention->resident_bytes() + layer.feed_forward->resident_bytes();
}

}  // namespace

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
  info_.kv_rope_elements = layer.attention->entry_rope_elements();
  info_.kv_compressible = info_.kv_rope_elements > 0;
  layers_.push_back(std::move(layer));
}

void Decoder::finish(const ParameterFactory& parameters, int64_t inactive_parameters) {
  MOLE_CHECK_EQ(static_cast<int32_t>(layers_.size()), info_.num_layers);
  info_.dtype = parameters.dtype();
  info_.num_parameters = parameters.num_parameters();
  info_.num_active_parameters = parameters.num_parameters() - inactive_parameters;
  info_.weight_bytes = embedding_->resident_bytes() + final_norm_->resident_bytes() +
                       (head_ != nullptr ? head_->resident_bytes() : 0);
  for (const DecoderLayer& layer : layers_) info_.weight_bytes += resident_bytes(layer);
}

void Decoder::set_mtp(MtpModule module) {
  MOLE_CHECK_EQ(module.layer.attention->entry_elements(), info_.kv_entry_elements);
  info_.num_mtp_layers = 1;
  info_.weight_bytes += resident_bytes(module.layer);
  for (const auto* weight :
       {&module.embedding_norm, &module.hidden_norm, &module.projection, &module.head_norm}) {
    info_.weight_bytes += (*weight)->resident_bytes();
  }
  mtp_ = std::move(module);
}

kernels::Delta Decoder::run_layer(DecoderLayer& layer, const kernels::Delta& before, at::Tensor& x,
                                  StepContext& step, int32_t index) {
  const at::Tensor normed = before.first.defined()
                                ? kernels::add_rms_norm(x, before, layer.input_norm.get(), eps())
                                : kernels::rms_norm(x, *layer.input_norm, eps());
  const kernels::Delta attended{layer.attention->forward(normed, step, index)};
  return layer.feed_forward->forward(
      kernels::add_rms_norm(x, attended, layer.post_attention_norm.get(), eps()), step);
}

at::Tensor Decoder::embed(std::span<const TokenId> ids) {
  return kernels::embedding(ids, *embedding_);
}

void Decoder::run_layers(int32_t begin, int32_t end, at::Tensor& x, StepContext& step) {
  if (begin == end) return;
  kernels::Delta delta;  // of the last half layer, not yet in x
  for (int32_t i = begin; i < end; ++i) {
    delta = run_layer(layers_[static_cast<size_t>(i)], delta, x, step, i);
  }
  kernels::add_rms_norm(x, delta, nullptr, eps());
}

void Decoder::pass_over(int32_t begin, int32_t end, StepContext& step) const {
  size_t loads = step.expert_loads.size();
  for (int32_t i = begin; i < end; ++i) {
    loads += static_cast<size_t>(layers_[static_cast<size_t>(i)].feed_forward->num_experts());
  }
  step.expert_loads.resize(loads, 0);
}

at::Tensor Decoder::hidden(std::span<const TokenId> ids, StepContext& step) {
  at::Tensor x = embed(ids);
  run_layers(0, info_.num_layers, x, step);
  return x;
}

at::Tensor Decoder::draft(std::span<const TokenId> ids, const at::Tensor& state,
                          StepContext& step) {
  MtpModule& mtp = *mtp_;
  const int64_t rows = state.size(0), hidden = config_.hidden_size;
  const at::Tensor embedded = kernels::embedding(ids, *embedding_);
  const at::Tensor joined = kernels::empty({rows, 2 * hidden}, info_.dtype);
  kernels::rms_norm_into(embedded, *mtp.embedding_norm, eps(), joined, 0);
  kernels::rms_norm_into(state, *mtp.hidden_norm, eps(), joined, hidden);
  at::Tensor x = kernels::linear(joined, *mtp.projection, info_.dtype);
  const kernels::Delta delta = run_layer(mtp.layer, {}, x, step, info_.num_layers);
  return kernels::add_rms_norm(x, delta, mtp.head_norm.get(), eps());
}

at::Tensor Decoder::normalize(const at::Tensor& hidden) {
  return kernels::rms_norm(hidden, *final_norm_, eps());
}

}  // namespace mole::model
