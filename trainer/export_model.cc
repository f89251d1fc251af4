#include "trainer/export_model.h"

#include "base/file.h"
#include "base/json.h"
#include "model/trainable.h"
#include "model_loader/safetensors.h"
#include "text/tokenizer.h"
#include "trainer/run_state.h"

namespace mole::trainer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kTokenizerBytesMax = 64u << 20;
constexpr size_t kTemplateBytesMax = 1u << 20;

/// For a base model that knows prose and no roles: the messages as paragraphs; the model goes on
/// where the last one ends.
constexpr const char* kPlainTemplate =
    "{{ bos_token }}{% for message in messages %}{% if not loop.first %}{{ '\\n\\n' }}{% endif %}"
    "{{ message['content'] }}{% endfor %}";

struct SpecialTokens {
  TokenId bos_id = -1, eos_id = -1;
  std::string bos, eos;
};

StatusOr<SpecialTokens> special_tokens(const Json& state, const fs::path& folder) {
  MOLE_ASSIGN_OR_RETURN(auto tokenizer, text::Tokenizer::load(folder));
  SpecialTokens out;
  out.bos_id = state.at("bos_token_id").get<TokenId>();
  out.eos_id = state.at("eos_token_id").get<TokenId>();
  out.bos = tokenizer->token_spelling(out.bos_id);
  out.eos = tokenizer->token_spelling(out.eos_id);
  if (!out.bos.empty() && !out.eos.empty()) return out;
  return absl::InvalidArgumentError(folder.string() +
                                    ": not the run's tokenizer: it lacks BOS or EOS");
}

Json model_config(const Json& state, const SpecialTokens& special, const std::string& dtype) {
  Json config = state.at("config").at("model");
  config["torch_dtype"] = dtype;
  config["bos_token_id"] = special.bos_id;
  config["eos_token_id"] = special.eos_id;
  return config;
}

StatusOr<Json> tokenizer_config(const Json& model, const SpecialTokens& special,
                                const fs::path& chat_template) {
  std::string source = kPlainTemplate;
  if (!chat_template.empty()) {
    MOLE_ASSIGN_OR_RETURN(source, read_file(chat_template, kTemplateBytesMax));
  }
  return Json{{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"bos_token", special.bos},
              {"eos_token", special.eos},
              {"add_bos_token", true},
              {"clean_up_tokenization_spaces", false},
              {"model_max_length", model.value("max_position_embeddings", 2048)},
              {"chat_template", source}};
}

Status write_json(const fs::path& path, const Json& value) {
  return write_file_atomic(path, value.dump(2) + "\n");
}

Status write_weights(const LoadedCheckpoint& checkpoint, const Json& config,
                     const ExportOptions& options) {
  MOLE_ASSIGN_OR_RETURN(auto model, model::Trainable::create(config, {.threads = 1}));
  MOLE_RETURN_IF_ERROR(restore_parameters(checkpoint, *model));
  const model::ExportedTensors tensors =
      model->export_tensors(options.dtype == "float32" ? DType::kFloat32 : DType::kBFloat16);
  return loader::write_safetensors(options.output / "model.safetensors", tensors.views,
                                   {{"format", "pt"}});
}

}  // namespace

Status export_model(const LoadedCheckpoint& checkpoint, const ExportOptions& options) {
  const Json& state = checkpoint.state;
  std::error_code error;
  fs::create_directories(options.output, error);
  if (error) return absl::InternalError(options.output.string() + ": " + error.message());
  try {
    const fs::path tokenizer =
        options.tokenizer.empty()
            ? fs::path(state.at("config").at("data").at("tokenizer").get<std::string>())
            : options.tokenizer;
    MOLE_ASSIGN_OR_RETURN(const SpecialTokens special, special_tokens(state, tokenizer));
    MOLE_ASSIGN_OR_RETURN(const std::string tokenizer_json,
                          read_file(tokenizer / "tokenizer.json", kTokenizerBytesMax));
    const Json config = model_config(state, special, options.dtype);
    MOLE_ASSIGN_OR_RETURN(const Json for_text,
                          tokenizer_config(config, special, options.chat_template));
    const Json generation = {{"bos_token_id", special.bos_id},
                             {"eos_token_id", special.eos_id},
                             {"do_sample", true},
                             {"temperature", 0.7},
                             {"top_p", 0.95}};
    MOLE_RETURN_IF_ERROR(write_json(options.output / "config.json", config));
    MOLE_RETURN_IF_ERROR(write_file_atomic(options.output / "tokenizer.json", tokenizer_json));
    MOLE_RETURN_IF_ERROR(write_json(options.output / "tokenizer_config.json", for_text));
    MOLE_RETURN_IF_ERROR(write_json(options.output / "generation_config.json", generation));
    return write_weights(checkpoint, config, options);
  } catch (const Json::exception& problem) {
    return absl::DataLossError(checkpoint.folder.string() + ": state: " + problem.what());
  }
}

}  // namespace mole::trainer
