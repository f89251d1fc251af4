#include "model/layers/architecture.h"

namespace mole::model {

namespace {
constexpr int64_t kVocabMax = 1 << 22;
constexpr int64_t kLayersMax = 1024;
constexpr int64_t kContextMax = 1 << 22;
}  // namespace

StatusOr<DType> resolve_dtype(const Json& config, const std::string& option) {
  if (option == "float32") return DType::kFloat32;
  if (option == "bfloat16") return DType::kBFloat16;
  if (option != "auto") {
    return absl::InvalidArgumentError("dtype is \"" + option +
                                      "\"; accepted: auto, float32, bfloat16");
  }
  ConfigReader reader(config, "config.json");
  const std::string key = reader.has("torch_dtype") ? "torch_dtype" : "dtype";
  const std::string name = reader.choice_or(key, "float32", {"float32", "bfloat16", "float16"});
  MOLE_RETURN_IF_ERROR(reader.status());
  return name == "bfloat16" ? DType::kBFloat16 : DType::kFloat32;
}

ModelInfo read_common_info(ConfigReader& reader, const std::string& architecture) {
  ModelInfo info;
  info.architecture = architecture;
  info.vocab_size = static_cast<int32_t>(reader.integer("vocab_size", 1, kVocabMax));
  info.num_layers = static_cast<int32_t>(reader.integer("num_hidden_layers", 1, kLayersMax));
  info.context_length =
      static_cast<int32_t>(reader.integer("max_position_embeddings", 1, kContextMax));
  info.eos_token_ids = read_token_ids(reader, "eos_token_id", info.vocab_size);
  const std::vector<TokenId> bos = read_token_ids(reader, "bos_token_id", info.vocab_size);
  if (!bos.empty()) info.bos_token_id = bos.front();
  return info;
}

}  // namespace mole::model
