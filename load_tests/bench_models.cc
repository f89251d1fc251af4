#include "load_tests/bench_models.h"

#include <algorithm>
#include <cmath>

namespace mole::load_tests {

namespace {

// What all shapes here have in common; each adds its own.
Json common() {
  return {{"attention_bias", false},
          {"attention_dropout", 0.0},
          {"first_k_dense_replace", 1},
          {"hidden_act", "silu"},
          {"hidden_size", 2048},
          {"initializer_range", 0.02},
          {"kv_lora_rank", 512},
          {"moe_layer_freq", 1},
          {"n_group", 1},
          {"q_lora_rank", nullptr},
          {"qk_nope_head_dim", 128},
          {"qk_rope_head_dim", 64},
          {"rms_norm_eps", 1e-6},
          {"tie_word_embeddings", false},
          {"topk_group", 1},
          {"use_cache", true},
          {"v_head_dim", 128}};
}

Json yarn(double mscale) {
  return {{"type", "yarn"},          {"factor", 40},   {"original_max_position_embeddings", 4096},
          {"beta_fast", 32},         {"beta_slow", 1}, {"mscale", mscale},
          {"mscale_all_dim", mscale}};
}

// Source: config.json of deepseek-ai/DeepSeek-V2-Lite.
Json v2_lite() {
  Json config = common();
  config.update({{"architectures", {"DeepseekV2ForCausalLM"}},
                 {"model_type", "deepseek_v2"},
                 {"bos_token_id", 100000},
                 {"eos_token_id", 100001},
                 {"intermediate_size", 10944},
                 {"max_position_embeddings", 163840},
                 {"moe_intermediate_size", 1408},
                 {"n_routed_experts", 64},
                 {"n_shared_experts", 2},
                 {"norm_topk_prob", false},
                 {"num_attention_heads", 16},
                 {"num_experts_per_tok", 6},
                 {"num_hidden_layers", 27},
                 {"num_key_value_heads", 16},
                 {"rope_scaling", yarn(0.707)},
                 {"rope_theta", 10000},
                 {"routed_scaling_factor", 1.0},
                 {"scoring_func", "softmax"},
                 {"topk_method", "greedy"},
                 {"vocab_size", 102400}});
  return config;
}

// Source: config.json of deepseek-ai/DeepSeek-V3, without its FP8 quantisation.
Json v3() {
  Json config = common();
  config.update({{"architectures", {"DeepseekV3ForCausalLM"}},
                 {"model_type", "deepseek_v3"},
                 {"bos_token_id", 0},
                 {"eos_token_id", 1},
                 {"first_k_dense_replace", 3},
                 {"hidden_size", 7168},
                 {"intermediate_size", 18432},
                 {"max_position_embeddings", 163840},
                 {"moe_intermediate_size", 2048},
                 {"n_group", 8},
                 {"n_routed_experts", 256},
                 {"n_shared_experts", 1},
                 {"norm_topk_prob", true},
                 {"num_attention_heads", 128},
                 {"num_experts_per_tok", 8},
                 {"num_hidden_layers", 61},
                 {"num_key_value_heads", 128},
                 {"q_lora_rank", 1536},
                 {"rope_scaling", yarn(1.0)},
                 {"rope_theta", 10000},
                 {"routed_scaling_factor", 2.5},
                 {"scoring_func", "sigmoid"},
                 {"topk_group", 4},
                 {"topk_method", "noaux_tc"},
                 {"vocab_size", 129280}});
  return config;
}

// Source: config.json of moonshotai/Moonlight-16B-A3B.
Json moonlight() {
  Json config = v2_lite();
  config.update({{"architectures", {"DeepseekV3ForCausalLM"}},
                 {"model_type", "deepseek_v3"},
                 {"bos_token_id", 163584},
                 {"eos_token_id", 163585},
                 {"intermediate_size", 11264},
                 {"max_position_embeddings", 8192},
                 {"norm_topk_prob", true},
                 {"rms_norm_eps", 1e-5},
                 {"rope_scaling", nullptr},
                 {"rope_theta", 50000.0},
                 {"routed_scaling_factor", 2.446},
                 {"scoring_func", "sigmoid"},
                 {"topk_method", "noaux_tc"},
                 {"vocab_size", 163840}});
  return config;
}

Json fixed_cost() {
  Json config = v2_lite();
  config.update({{"hidden_size", 128},
                 {"intermediate_size", 512},
                 {"moe_intermediate_size", 96},
                 {"n_routed_experts", 16},
                 {"max_position_embeddings", 16384},
                 {"bos_token_id", 0},
                 {"eos_token_id", 1},
                 {"vocab_size", 32768}});
  return config;
}

// Heads and latents as narrow as a test wants them, everything else as in V2-Lite.
Json lite_tiny() {
  Json config = v2_lite();
  config.update({{"hidden_size", 256},
                 {"intermediate_size", 704},
                 {"moe_intermediate_size", 96},
                 {"n_routed_experts", 16},
                 {"kv_lora_rank", 128},
                 {"num_attention_heads", 4},
                 {"num_key_value_heads", 4},
                 {"num_hidden_layers", 4},
                 {"max_position_embeddings", 16384},
                 {"bos_token_id", 0},
                 {"eos_token_id", 1},
                 {"vocab_size", 4096}});
  return config;
}

struct Named {
  const char* name;
  Json (*config)();
};
constexpr Named kShapes[] = {{"v2-lite", v2_lite},
                             {"v3", v3},
                             {"moonlight", moonlight},
                             {"fixed-cost", fixed_cost},
                             {"lite-tiny", lite_tiny}};

struct Preset {
  const char* name;
  const char* shape;
  int64_t experts;
};
constexpr Preset kPresets[] = {
    {"lite16e", "v2-lite", 16}, {"lite-tiny", "lite-tiny", 0}, {"fixed-cost", "fixed-cost", 0}};

std::string list(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : ", ") + name;
  return text;
}

/// Keeps groups that still divide the experts; fewer groups where they no longer do.
void fit_groups(int64_t experts, Json* config) {
  int64_t groups = (*config)["n_group"];
  const int64_t top_k = (*config)["num_experts_per_tok"];
  // A group is ranked by its two best experts.
  while (groups > 1 && (experts % groups != 0 || experts / groups < 2)) groups /= 2;
  int64_t chosen = std::min((*config)["topk_group"].get<int64_t>(), groups);
  while (chosen * (experts / groups) < top_k) ++chosen;
  (*config)["n_group"] = groups;
  (*config)["topk_group"] = chosen;
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const Named& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const Preset& each : kPresets) names.emplace_back(each.name);
  return names;
}

StatusOr<BenchModel> preset(const std::string& name) {
  for (const Preset& each : kPresets) {
    if (name == each.name) return BenchModel{.shape = each.shape, .experts = each.experts};
  }
  return absl::InvalidArgumentError("preset is \"" + name +
                                    "\"; accepted: " + list(preset_names()));
}

StatusOr<Json> bench_config(const BenchModel& model) {
  const auto* found = std::find_if(std::begin(kShapes), std::end(kShapes),
                                   [&](const Named& shape) { return model.shape == shape.name; });
  if (found == std::end(kShapes)) {
    return absl::InvalidArgumentError("shape is \"" + model.shape +
                                      "\"; accepted: " + list(shape_names()));
  }
  Json config = found->config();
  config["torch_dtype"] = model.dtype;
  if (model.layers > 0) {
    config["num_hidden_layers"] = model.layers;
    const int64_t dense = config["first_k_dense_replace"];
    config["first_k_dense_replace"] = std::min(dense, model.layers - 1);
  }
  if (model.experts > 0) {
    const int64_t top_k = config["num_experts_per_tok"];
    if (model.experts < top_k) {
      return absl::InvalidArgumentError("experts is " + std::to_string(model.experts) +
                                        "; at least num_experts_per_tok, " + std::to_string(top_k) +
                                        ", is accepted");
    }
    config["n_routed_experts"] = model.experts;
    fit_groups(model.experts, &config);
  }
  if (model.mtp_layers > 0) {
    if (model.shape != "v3") {
      return absl::InvalidArgumentError("mtp-layers is " + std::to_string(model.mtp_layers) +
                                        "; only shape v3 has such modules");
    }
    config["num_nextn_predict_layers"] = model.mtp_layers;
  }
  return config;
}

}  // namespace mole::load_tests
