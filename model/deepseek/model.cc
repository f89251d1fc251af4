#include "model/deepseek/model.h"

#include <algorithm>
#include <cmath>

#include "model/deepseek/config.h"
#include "model/layers/mla.h"

namespace mole::model::deepseek {

namespace {

// Not rms_norm_eps: the published code leaves these two norms at their class's default.
constexpr float kInnerNormEps = 1e-6f;

std::string layer_prefix(int32_t index) { return "model.layers." + std::to_string(index) + "."; }

MlaConfig mla_config(const Config& config) {
  const int32_t key = config.qk_nope_head_dim + config.qk_rope_head_dim;
  return {.hidden_size = config.hidden_size,
          .num_heads = config.num_attention_heads,
          .q_lora_rank = config.q_lora_rank,
          .kv_lora_rank = config.kv_lora_rank,
          .qk_nope_head_dim = config.qk_nope_head_dim,
          .qk_rope_head_dim = config.qk_rope_head_dim,
          .v_head_dim = config.v_head_dim,
          .inner_norm_eps = kInnerNormEps,
          .softmax_scale = static_cast<float>(config.rope.softmax_factor / std::sqrt(key)),
          .rope_layout = config.rope_interleave ? kernels::RopeLayout::kInterleaved
                                                : kernels::RopeLayout::kHalfSplit,
          .rope = make_table(config.rope, config.info.context_length)};
}

std::unique_ptr<FeedForward> make_feed_forward(const Config& config, int32_t layer,
                                               const std::string& prefix,
                                               ParameterFactory& parameters) {
  const int64_t hidden = config.hidden_size;
  if (!config.is_moe(layer)) {
    return std::make_unique<DenseFeedForward>(hidden, config.intermediate_size, prefix, parameters);
  }
  MoeNames names;
  names.gate = prefix + "gate.weight";
  if (config.correction_bias) names.correction_bias = prefix + "gate.e_score_correction_bias";
  for (int32_t e = 0; e < config.n_routed_experts; ++e) {
    const std::string expert = prefix + "experts." + std::to_string(e) + ".";
    names.experts.push_back(
        {expert + "gate_proj.weight", expert + "up_proj.weight", expert + "down_proj.weight"});
  }
  std::unique_ptr<DenseFeedForward> shared;
  if (config.n_shared_experts > 0) {
    const int64_t width = int64_t{config.moe_intermediate_size} * config.n_shared_experts;
    shared =
        std::make_unique<DenseFeedForward>(hidden, width, prefix + "shared_experts.", parameters);
  }
  return std::make_unique<MoeFeedForward>(config.router, hidden, config.moe_intermediate_size,
                                          names, std::move(shared), parameters);
}

DecoderLayer make_layer(const Config& config, const MlaConfig& mla, int32_t index,
                        ParameterFactory& parameters) {
  const std::string prefix = layer_prefix(index);
  DecoderLayer layer;
  layer.input_norm = parameters.norm(prefix + "input_layernorm.weight", config.hidden_size);
  layer.attention = std::make_unique<Mla>(mla, prefix + "self_attn.", parameters);
  layer.post_attention_norm =
      parameters.norm(prefix + "post_attention_layernorm.weight", config.hidden_size);
  layer.feed_forward = make_feed_forward(config, index, prefix + "mlp.", parameters);
  return layer;
}

StatusOr<std::unique_ptr<Decoder>> build(const Json& json, bool v3, ParameterFactory& parameters) {
  MOLE_ASSIGN_OR_RETURN(const Config config, read_config(json, v3));
  const int32_t num_layers = config.info.num_layers;
  // Layers past the last are multi-token-prediction modules: read by add_mtp, or not at all. Their
  // copies of the embedding and the head are never read.
  for (int32_t i = 0; i < std::max(1, config.num_nextn_predict_layers); ++i) {
    parameters.ignore_prefix(layer_prefix(num_layers + i));
  }
  const MlaConfig mla = mla_config(config);
  auto decoder = std::make_unique<Decoder>(
      DecoderConfig{config.hidden_size, config.info.vocab_size,
                    static_cast<float>(config.rms_norm_eps), config.tie_word_embeddings},
      config.info, parameters);
  for (int32_t i = 0; i < num_layers; ++i) {
    decoder->add_layer(make_layer(config, mla, i, parameters));
  }
  const int64_t idle =
      config.info.num_moe_layers > 0 ? config.n_routed_experts - config.router.top_k : 0;
  decoder->finish(parameters, idle * config.info.num_moe_layers * 3 * config.hidden_size *
                                  config.moe_intermediate_size);
  return decoder;
}

}  // namespace

StatusOr<std::unique_ptr<Decoder>> build_v2(const Json& config, ParameterFactory& parameters) {
  return build(config, false, parameters);
}

StatusOr<std::unique_ptr<Decoder>> build_v3(const Json& config, ParameterFactory& parameters) {
  return build(config, true, parameters);
}

Status add_mtp(const Json& json, ParameterFactory& parameters, Decoder& decoder) {
  MOLE_ASSIGN_OR_RETURN(const Config config, read_config(json, true));
  if (config.num_nextn_predict_layers == 0) {
    return absl::InvalidArgumentError(
        "config.json: num_nextn_predict_layers is 0 or absent; multi-token prediction needs a "
        "checkpoint with at least 1");
  }
  const int32_t index = config.info.num_layers;
  const std::string prefix = layer_prefix(index);
  const int64_t hidden = config.hidden_size;
  MtpModule module;
  module.embedding_norm = parameters.norm(prefix + "enorm.weight", hidden);
  module.hidden_norm = parameters.norm(prefix + "hnorm.weight", hidden);
  module.projection = parameters.matrix({{prefix + "eh_proj.weight", hidden}}, 2 * hidden);
  module.layer = make_layer(config, mla_config(config), index, parameters);
  module.head_norm = parameters.norm(prefix + "shared_head.norm.weight", hidden);
  decoder.set_mtp(std::move(module));
  return absl::OkStatus();
}

}  // namespace mole::model::deepseek
