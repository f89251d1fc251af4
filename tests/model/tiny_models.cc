#include "tests/model/tiny_models.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "base/check.h"
#include "model/registry.h"
#include "model/trainable.h"
#include "model_loader/safetensors.h"

namespace mole::model::testing {

namespace {

Json deepseek(bool v3) {
  Json config = {{"model_type", v3 ? "deepseek_v3" : "deepseek_v2"},
                 {"vocab_size", 101},
                 {"hidden_size", 40},
                 {"intermediate_size", 56},
                 {"moe_intermediate_size", 24},
                 {"num_hidden_layers", 3},
                 {"num_attention_heads", 3},
                 {"kv_lora_rank", 20},
                 {"qk_nope_head_dim", 12},
                 {"qk_rope_head_dim", 8},
                 {"v_head_dim", 10},
                 {"n_routed_experts", 8},
                 {"n_shared_experts", 1},
                 {"num_experts_per_tok", 3},
                 {"first_k_dense_replace", 1},
                 {"routed_scaling_factor", 1.5},
                 {"max_position_embeddings", 512},
                 {"rms_norm_eps", 1e-6},
                 {"initializer_range", 0.15},
                 {"eos_token_id", 1},
                 {"bos_token_id", 0},
                 {"torch_dtype", "float32"}};
  if (!v3) {
    config["norm_topk_prob"] = false;
    return config;
  }
  config["q_lora_rank"] = 18;
  config["n_group"] = 4;
  config["topk_group"] = 2;
  config["rope_scaling"] = {{"type", "yarn"},
                            {"factor", 8},
                            {"original_max_position_embeddings", 64},
                            {"mscale", 1.0},
                            {"mscale_all_dim", 0.8}};
  return config;
}

Json mixtral() {
  return {{"model_type", "mixtral"},
          {"vocab_size", 97},
          {"hidden_size", 36},
          {"intermediate_size", 28},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 10},
          {"num_local_experts", 5},
          {"num_experts_per_tok", 2},
          {"max_position_embeddings", 512},
          {"tie_word_embeddings", true},
          {"initializer_range", 0.15},
          {"torch_dtype", "float32"}};
}

using Views = std::map<std::string, loader::TensorView>;

/// The norms and the projection around a multi-token-prediction module's layer.
class MtpTensors {
 public:
  MtpTensors(const Json& config, uint64_t seed, DType dtype) : random_(seed), dtype_(dtype) {
    const int64_t hidden = config["hidden_size"].get<int64_t>();
    prefix_ = "model.layers." + config["num_hidden_layers"].dump() + ".";
    for (const char* name : {"enorm.weight", "hnorm.weight", "shared_head.norm.weight"}) {
      add(name, {hidden}, 1.0f, 0.1f);
    }
    add("eh_proj.weight", {hidden, 2 * hidden}, 0.0f, config["initializer_range"].get<float>());
  }
  void add_to(Views* views) const {
    for (const auto& [name, made] : made_) {
      (*views)[prefix_ + name] = {dtype_, made.first, std::as_bytes(std::span(made.second))};
    }
  }

 private:
  void add(const std::string& name, const std::vector<int64_t>& shape, float mean, float width) {
    std::normal_distribution<float> normal(mean, width);
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    auto& bytes = made_[name];
    bytes.first = shape;
    for (int64_t i = 0; i < count; ++i) {
      const float value = normal(random_);
      const BFloat16 rounded = to_bfloat16(value);
      const auto* from = dtype_ == DType::kFloat32 ? reinterpret_cast<const std::byte*>(&value)
                                                   : reinterpret_cast<const std::byte*>(&rounded);
      bytes.second.insert(bytes.second.end(), from, from + dtype_bytes(dtype_));
    }
  }

  std::mt19937_64 random_;
  DType dtype_;
  std::string prefix_;
  std::map<std::string, std::pair<std::vector<int64_t>, std::vector<std::byte>>> made_;
};

/// `config` with its multi-token-prediction module as one more ordinary layer.
Json with_module_as_layer(Json config) {
  const int64_t modules = config.value("num_nextn_predict_layers", int64_t{0});
  config["num_hidden_layers"] = config["num_hidden_layers"].get<int64_t>() + modules;
  config.erase("num_nextn_predict_layers");
  return config;
}

}  // namespace

Json tiny_config(const std::string& name) {
  if (name == "mixtral") return mixtral();
  MOLE_CHECK(name == "deepseek_v2" || name == "deepseek_v3");
  return deepseek(name == "deepseek_v3");
}

TinyCheckpoint::TinyCheckpoint(const Json& config, uint64_t seed, DType dtype) {
  static std::atomic<int> count{0};
  folder_ = std::filesystem::path(::testing::TempDir()) /
            ("tiny_model_" + std::to_string(::getpid()) + "_" + std::to_string(count++));
  std::filesystem::create_directories(folder_);
  auto model = Trainable::create(with_module_as_layer(config),
                                 {.dtype = DType::kFloat32, .threads = 1, .seed = seed});
  MOLE_CHECK(model.ok());
  ExportedTensors exported = (*model)->export_tensors(dtype);
  std::optional<MtpTensors> around_module;
  if (config.value("num_nextn_predict_layers", 0) > 0) {
    around_module.emplace(config, seed, dtype).add_to(&exported.views);
  }
  MOLE_CHECK(loader::write_safetensors(folder_ / "model.safetensors", exported.views).ok());
  std::ofstream(folder_ / "config.json") << config.dump(1);
}

TinyCheckpoint::~TinyCheckpoint() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::unique_ptr<Model> TinyCheckpoint::load(DType dtype, int32_t threads,
                                            const std::string& quantization) const {
  auto model = load_model(
      folder_,
      {.dtype = std::string(dtype_name(dtype)), .quantization = quantization, .threads = threads});
  if (!model.ok()) {
    ADD_FAILURE() << model.status();
    return nullptr;
  }
  return std::move(*model);
}

}  // namespace mole::model::testing
