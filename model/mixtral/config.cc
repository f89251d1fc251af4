#include "model/mixtral/config.h"

#include <algorithm>

#include "model/layers/architecture.h"
#include "model/layers/config_reader.h"

namespace mole::model::mixtral {

namespace {
constexpr int64_t kWidthMax = 1 << 20;
constexpr int64_t kHeadsMax = 4096;
constexpr int64_t kHeadDimMax = 4096;
constexpr int64_t kExpertsMax = 65536;
constexpr double kRopeTheta = 1e6;  // transformers' default for Mixtral
}  // namespace

StatusOr<Config> read_config(const Json& json) {
  ConfigReader reader(json, "config.json");
  auto small = [&](const char* key, int64_t max) {
    return static_cast<int32_t>(reader.integer(key, 1, max));
  };
  Config config;
  config.info = read_common_info(reader, "mixtral");
  config.info.num_moe_layers = config.info.num_layers;
  config.hidden_size = small("hidden_size", kWidthMax);
  config.intermediate_size = small("intermediate_size", kWidthMax);
  config.num_attention_heads = small("num_attention_heads", kHeadsMax);
  config.num_key_value_heads = static_cast<int32_t>(
      reader.integer_or("num_key_value_heads", config.num_attention_heads, 1, kHeadsMax));
  if (config.num_attention_heads % config.num_key_value_heads != 0) {
    reader.refuse("num_key_value_heads", "a divisor of num_attention_heads");
  }
  if (!reader.has("head_dim") && config.hidden_size % config.num_attention_heads != 0) {
    reader.refuse("hidden_size", "a multiple of num_attention_heads, or give head_dim");
  }
  config.head_dim = static_cast<int32_t>(reader.integer_or(
      "head_dim", std::max(config.hidden_size / config.num_attention_heads, 1), 1, kHeadDimMax));
  if (config.head_dim % 2 != 0) reader.refuse("head_dim", "an even number");
  config.num_local_experts = small("num_local_experts", kExpertsMax);
  config.info.num_experts = config.num_local_experts;
  config.num_experts_per_tok = small("num_experts_per_tok", config.num_local_experts);
  config.info.num_experts_per_token = config.num_experts_per_tok;
  reader.choice_or("hidden_act", "silu", {"silu"});
  config.rms_norm_eps = reader.number_or("rms_norm_eps", 1e-5, 1e-12, 1.0);
  config.tie_word_embeddings = reader.flag_or("tie_word_embeddings", false);
  const int64_t window =
      reader.integer_or("sliding_window", config.info.context_length, 1, 1 << 30);
  if (window < config.info.context_length) {
    reader.refuse("sliding_window", "null, or at least max_position_embeddings");
  }
  config.rope = read_rope(reader, config.head_dim, kRopeTheta, config.info.context_length);
  MOLE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace mole::model::mixtral
