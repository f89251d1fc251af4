#include "model/mixtral/model.h"

#include <cmath>

#include "model/layers/gqa.h"
#include "model/mixtral/config.h"

namespace mole::model::mixtral {

namespace {

std::unique_ptr<FeedForward> make_moe(const Config& config, const std::string& prefix,
                                      ParameterFactory& parameters) {
  const kernels::RouterConfig router{.score = kernels::RouterScore::kSoftmax,
                                     .num_experts = config.num_local_experts,
                                     .top_k = config.num_experts_per_tok,
                                     .normalize = true};
  MoeNames names;
  names.gate = prefix + "gate.weight";
  for (int32_t e = 0; e < config.num_local_experts; ++e) {
    const std::string expert = prefix + "experts." + std::to_string(e) + ".";
    names.experts.push_back({expert + "w1.weight", expert + "w3.weight", expert + "w2.weight"});
  }
  return std::make_unique<MoeFeedForward>(router, config.hidden_size, config.intermediate_size,
                                          names, nullptr, parameters);
}

}  // namespace

StatusOr<std::unique_ptr<Decoder>> build(const Json& json, ParameterFactory& parameters) {
  MOLE_ASSIGN_OR_RETURN(const Config config, read_config(json));
  const GqaConfig gqa{.hidden_size = config.hidden_size,
                      .num_heads = config.num_attention_heads,
                      .num_kv_heads = config.num_key_value_heads,
                      .head_dim = config.head_dim,
                      .softmax_scale = static_cast<float>(1.0 / std::sqrt(config.head_dim)),
                      .rope_layout = kernels::RopeLayout::kHalfSplit,
                      .rope = make_table(config.rope, config.info.context_length)};
  auto decoder = std::make_unique<Decoder>(
      DecoderConfig{config.hidden_size, config.info.vocab_size,
                    static_cast<float>(config.rms_norm_eps), config.tie_word_embeddings},
      config.info, parameters);
  for (int32_t i = 0; i < config.info.num_layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    DecoderLayer layer;
    layer.input_norm = parameters.norm(prefix + "input_layernorm.weight", config.hidden_size);
    layer.attention = std::make_unique<Gqa>(gqa, prefix + "self_attn.", parameters);
    layer.post_attention_norm =
        parameters.norm(prefix + "post_attention_layernorm.weight", config.hidden_size);
    layer.feed_forward = make_moe(config, prefix + "block_sparse_moe.", parameters);
    decoder->add_layer(std::move(layer));
  }
  const int64_t idle = config.num_local_experts - config.num_experts_per_tok;
  decoder->finish(parameters, idle * config.info.num_layers * 3 * config.hidden_size *
                                  config.intermediate_size);
  return decoder;
}

}  // namespace mole::model::mixtral
