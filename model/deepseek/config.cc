#include "model/deepseek/config.h"

#include "model/layers/architecture.h"
#include "model/layers/config_reader.h"

namespace mole::model::deepseek {

namespace {

constexpr int64_t kWidthMax = 1 << 20;
constexpr int64_t kHeadsMax = 4096;
constexpr int64_t kHeadDimMax = 4096;
constexpr int64_t kExpertsMax = 65536;
constexpr double kRopeTheta = 10000.0;

void read_attention(ConfigReader& reader, Config* config) {
  auto small = [&](const char* key, int64_t min, int64_t max) {
    return static_cast<int32_t>(reader.integer(key, min, max));
  };
  config->num_attention_heads = small("num_attention_heads", 1, kHeadsMax);
  config->q_lora_rank = static_cast<int32_t>(reader.integer_or("q_lora_rank", 0, 1, kWidthMax));
  config->kv_lora_rank = small("kv_lora_rank", 1, kWidthMax);
  config->qk_nope_head_dim = small("qk_nope_head_dim", 1, kHeadDimMax);
  config->qk_rope_head_dim = small("qk_rope_head_dim", 2, kHeadDimMax);
  config->v_head_dim = small("v_head_dim", 1, kHeadDimMax);
  if (config->qk_rope_head_dim % 2 != 0) reader.refuse("qk_rope_head_dim", "an even number");
  if (reader.integer_or("num_key_value_heads", config->num_attention_heads, 1, kHeadsMax) !=
      config->num_attention_heads) {
    reader.refuse("num_key_value_heads", "num_attention_heads (latent attention has no groups)");
  }
  if (reader.flag_or("attention_bias", false)) reader.refuse("attention_bias", "false");
  config->rope_interleave = reader.flag_or("rope_interleave", true);
  config->rope =
      read_rope(reader, config->qk_rope_head_dim, kRopeTheta, config->info.context_length);
}

void read_groups(ConfigReader& reader, kernels::RouterConfig* router) {
  router->num_groups =
      static_cast<int32_t>(reader.integer_or("n_group", 1, 1, router->num_experts));
  router->topk_groups =
      static_cast<int32_t>(reader.integer_or("topk_group", 1, 1, router->num_groups));
  const int32_t in_group = router->num_experts / router->num_groups;
  if (router->num_experts % router->num_groups != 0) {
    reader.refuse("n_group", "a divisor of n_routed_experts");
  } else if (router->num_groups > 1 &&
             router->group_score == kernels::RouterGroupScore::kGroupTop2 && in_group < 2) {
    reader.refuse("n_group", "at most n_routed_experts / 2, a group's score being its two best");
  } else if (router->topk_groups * in_group < router->top_k) {
    reader.refuse("topk_group", "groups with at least num_experts_per_tok experts together");
  }
}

void read_router(ConfigReader& reader, bool v3, Config* config) {
  kernels::RouterConfig& router = config->router;
  router.num_experts = config->n_routed_experts;
  router.top_k = static_cast<int32_t>(reader.integer("num_experts_per_tok", 1, router.num_experts));
  router.scale = static_cast<float>(reader.number_or("routed_scaling_factor", 1.0, 1e-6, 1e6));
  router.normalize = reader.flag_or("norm_topk_prob", v3);
  if (v3) {
    reader.choice_or("scoring_func", "sigmoid", {"sigmoid"});
    reader.choice_or("topk_method", "noaux_tc", {"noaux_tc"});
    router.score = kernels::RouterScore::kSigmoid;
    router.group_score = kernels::RouterGroupScore::kGroupTop2;
    config->correction_bias = true;
    read_groups(reader, &router);
    return;
  }
  reader.choice_or("scoring_func", "softmax", {"softmax"});
  const std::string method =
      reader.choice_or("topk_method", "greedy", {"greedy", "group_limited_greedy"});
  router.score = kernels::RouterScore::kSoftmax;
  router.group_score = kernels::RouterGroupScore::kGroupMax;
  if (router.normalize) {
    reader.refuse("norm_topk_prob", "false (published implementations of V2 disagree about true)");
  }
  if (method == "group_limited_greedy") read_groups(reader, &router);
}

}  // namespace

StatusOr<Config> read_config(const Json& json, bool v3) {
  ConfigReader reader(json, "config.json");
  Config config;
  config.info = read_common_info(reader, v3 ? "deepseek_v3" : "deepseek_v2");
  config.hidden_size = static_cast<int32_t>(reader.integer("hidden_size", 1, kWidthMax));
  reader.choice_or("hidden_act", "silu", {"silu"});
  config.rms_norm_eps = reader.number_or("rms_norm_eps", 1e-6, 1e-12, 1.0);
  config.tie_word_embeddings = reader.flag_or("tie_word_embeddings", false);
  read_attention(reader, &config);

  config.n_routed_experts =
      static_cast<int32_t>(reader.integer_or("n_routed_experts", 0, 1, kExpertsMax));
  config.first_k_dense_replace = static_cast<int32_t>(
      reader.integer_or("first_k_dense_replace", 0, 0, config.info.num_layers));
  config.num_nextn_predict_layers =
      static_cast<int32_t>(reader.integer_or("num_nextn_predict_layers", 0, 0, 64));
  config.moe_layer_freq = static_cast<int32_t>(reader.integer_or("moe_layer_freq", 1, 1, 1024));
  for (int32_t layer = 0; layer < config.info.num_layers; ++layer) {
    config.info.num_moe_layers += config.is_moe(layer) ? 1 : 0;
  }
  if (config.info.num_moe_layers > 0) {
    config.info.num_experts = config.n_routed_experts;
    config.n_shared_experts =
        static_cast<int32_t>(reader.integer_or("n_shared_experts", 0, 0, 1024));
    config.moe_intermediate_size =
        static_cast<int32_t>(reader.integer("moe_intermediate_size", 1, kWidthMax));
    read_router(reader, v3, &config);
    config.info.num_experts_per_token = config.router.top_k;
  }
  if (config.info.num_moe_layers < config.info.num_layers) {
    config.intermediate_size =
        static_cast<int32_t>(reader.integer("intermediate_size", 1, kWidthMax));
  }
  MOLE_RETURN_IF_ERROR(reader.status());
  return config;
}

}  // namespace mole::model::deepseek
