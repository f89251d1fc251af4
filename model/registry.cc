#include "model/registry.h"

#include <ATen/core/grad_mode.h>

#include <exception>

#include "base/file.h"
#include "kernels/torch/team.h"
#include "model/deepseek/model.h"
#include "model/layers/architecture.h"
#include "model/layers/serving_model.h"
#include "model/mixtral/model.h"
#include "model_loader/checkpoint.h"
#include "model_loader/fingerprint.h"

namespace mole::model {

namespace {

constexpr size_t kGenerationConfigBytesMax = 1 << 20;

constexpr Architecture kArchitectures[] = {
    {"deepseek_v2", deepseek::build_v2},
    {"deepseek_v3", deepseek::build_v3},
    {"mixtral", mixtral::build},
};

/// Like transformers, generation stops at generation_config.json's eos_token_id if the folder has
/// one: chat models name their end of turn only there.
Status read_generation_eos(const std::filesystem::path& folder, ModelInfo* info) {
  const std::filesystem::path path = folder / "generation_config.json";
  if (!std::filesystem::exists(path)) return absl::OkStatus();
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(path, kGenerationConfigBytesMax));
  const StatusOr<Json> config = parse_json(text);
  if (!config.ok()) return annotate(config.status(), path.string());
  ConfigReader reader(*config, "generation_config.json");
  const std::vector<TokenId> eos = read_token_ids(reader, "eos_token_id", info->vocab_size);
  if (!eos.empty()) info->eos_token_ids = eos;
  return annotate(reader.status(), folder.string());
}

StatusOr<std::unique_ptr<Model>> load(const std::filesystem::path& folder,
                                      const LoadOptions& options) {
  MOLE_ASSIGN_OR_RETURN(auto checkpoint, loader::Checkpoint::open(folder));
  MOLE_ASSIGN_OR_RETURN(const Architecture* architecture, find_architecture(checkpoint->config()));
  MOLE_ASSIGN_OR_RETURN(const DType dtype, resolve_dtype(checkpoint->config(), options.dtype));
  MOLE_ASSIGN_OR_RETURN(const Quantization quantization,
                        resolve_quantization(options.quantization, dtype));
  kernels::set_team_threads(options.threads);
  loader::TensorSource tensors(checkpoint);
  CheckpointParameters source(&tensors);
  ParameterFactory parameters(&source, dtype, false, 2 * checkpoint->weight_bytes(), quantization);
  MOLE_ASSIGN_OR_RETURN(auto decoder, architecture->build(checkpoint->config(), parameters));
  MOLE_RETURN_IF_ERROR(annotate(tensors.finish().status(), folder.string()));
  MOLE_RETURN_IF_ERROR(read_generation_eos(folder, &decoder->mutable_info()));
  const kernels::WeightFormat format =
      quantization.keep_stored ? weight_format(checkpoint->stored_format()) : quantization.format;
  decoder->mutable_info().quantization = kernels::format_name(format);
  if (options.fingerprint) {
    decoder->mutable_info().fingerprint = loader::fingerprint(*checkpoint);
  }
  return std::make_unique<ServingModel>(std::move(decoder));
}

}  // namespace

std::vector<std::string> architectures() {
  std::vector<std::string> names;
  for (const Architecture& architecture : kArchitectures) names.push_back(architecture.model_type);
  return names;
}

StatusOr<const Architecture*> find_architecture(const Json& config) {
  ConfigReader reader(config, "config.json");
  const Json* type = reader.find("model_type");
  for (const Architecture& architecture : kArchitectures) {
    if (type != nullptr && type->is_string() && *type == architecture.model_type) {
      return &architecture;
    }
  }
  std::string accepted;
  for (const std::string& name : architectures()) {
    accepted += (accepted.empty() ? "\"" : ", \"") + name + "\"";
  }
  reader.refuse("model_type", accepted);
  const Status problem = reader.status();
  if (type == nullptr || !type->is_string()) return problem;
  return absl::UnimplementedError(problem.message());
}

StatusOr<std::unique_ptr<Model>> load_model(const std::filesystem::path& folder,
                                            const LoadOptions& options) {
  try {
    const at::NoGradGuard no_gradients;
    return load(folder, options);
  } catch (const ConfigTooLarge& error) {
    return absl::InvalidArgumentError(folder.string() + ": " + error.what());
  } catch (const UnusableWeight& error) {
    return absl::DataLossError(folder.string() + ": " + error.what());
  } catch (const std::exception& error) {
    return absl::InternalError(folder.string() + ": " + error.what());
  }
}

}  // namespace mole::model
