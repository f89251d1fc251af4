#include "model/registry.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <exception>

#include "base/file.h"
#include "kernels/linear/pack_shapes.h"
#include "kernels/torch/team.h"
#include "model/deepseek/model.h"
#include "model/layers/architecture.h"
#include "model/layers/serving_model.h"
#include "model/mixtral/model.h"
#include "model_loader/checkpoint.h"
#include "model_loader/fingerprint.h"
#include "model_loader/read_ahead.h"

namespace mole::model {

namespace {

constexpr size_t kGenerationConfigBytesMax = 1 << 20;
// Enough for a disk of several GB/s while one large matrix is packed.
constexpr int64_t kReadAheadBytes = int64_t{1} << 30;

constexpr Architecture kArchitectures[] = {
    {"deepseek_v2", deepseek::build_v2},
    {"deepseek_v3", deepseek::build_v3, deepseek::add_mtp},
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

StatusOr<std::unique_ptr<Decoder>> build(const loader::Checkpoint& checkpoint,
                                         const LoadOptions& options, ParameterSource& source) {
  MOLE_ASSIGN_OR_RETURN(const Architecture* architecture, find_architecture(checkpoint.config()));
  MOLE_ASSIGN_OR_RETURN(const DType dtype, resolve_dtype(checkpoint.config(), options.dtype));
  MOLE_ASSIGN_OR_RETURN(const Quantization quantization,
                        resolve_quantization(options.quantization, dtype));
  kernels::set_team_threads(options.threads);
  ParameterFactory parameters(&source, dtype, false, 2 * checkpoint.weight_bytes(), quantization);
  MOLE_ASSIGN_OR_RETURN(auto decoder, architecture->build(checkpoint.config(), parameters));
  if (options.mtp) {
    if (architecture->add_mtp == nullptr) {
      return absl::InvalidArgumentError("config.json: model_type is \"" +
                                        std::string(architecture->model_type) +
                                        "\"; multi-token prediction needs \"deepseek_v3\"");
    }
    MOLE_RETURN_IF_ERROR(architecture->add_mtp(checkpoint.config(), parameters, *decoder));
  }
  MOLE_RETURN_IF_ERROR(read_generation_eos(checkpoint.folder(), &decoder->mutable_info()));
  const kernels::WeightFormat format =
      quantization.keep_stored ? weight_format(checkpoint.stored_format()) : quantization.format;
  decoder->mutable_info().quantization = kernels::format_name(format);
  return decoder;
}

StatusOr<std::unique_ptr<Model>> load(const std::filesystem::path& folder,
                                      const LoadOptions& options) {
  MOLE_ASSIGN_OR_RETURN(auto checkpoint, loader::Checkpoint::open(folder));
  loader::ReadAhead read_ahead(checkpoint, kReadAheadBytes);
  loader::TensorSource tensors(checkpoint);
  tensors.set_read_ahead(&read_ahead);
  CheckpointParameters source(&tensors);
  MOLE_ASSIGN_OR_RETURN(auto decoder, build(*checkpoint, options, source));
  MOLE_RETURN_IF_ERROR(annotate(tensors.finish().status(), folder.string()));
  if (options.fingerprint) {
    decoder->mutable_info().fingerprint = loader::fingerprint(*checkpoint);
  }
  return std::make_unique<ServingModel>(std::move(decoder), options.max_step_tokens);
}

/// Gives no values, but remembers how much was asked for: what lies there unpacked while a weight
/// is made, beside all that was made before.
class PlannedParameters final : public ParameterSource {
 public:
  explicit PlannedParameters(loader::TensorSource* tensors) : tensors_(*tensors) {}
  void read(const std::string&, const std::vector<int64_t>& shape, InitialValue, DType dtype,
            void*) override {
    int64_t bytes = dtype_bytes(dtype);
    for (const int64_t extent : shape) bytes *= extent;
    total_ += bytes;
    peak_ = std::max(peak_, total_ + bytes);
  }
  std::optional<loader::QuantizedTensor> quantized(const std::string& name,
                                                   const std::vector<int64_t>& shape) override {
    return tensors_.quantized(name, shape);
  }
  const void* mapped(const std::string& name, const std::vector<int64_t>& shape,
                     DType dtype) override {
    return tensors_.mapped(name, shape, dtype);
  }
  void ignore_prefix(const std::string&) override {}
  int64_t transient_bytes() const { return peak_ - total_; }

 private:
  loader::TensorSource& tensors_;
  int64_t total_ = 0, peak_ = 0;
};

StatusOr<LoadPlan> plan(const std::filesystem::path& folder, const LoadOptions& options) {
  MOLE_ASSIGN_OR_RETURN(auto checkpoint, loader::Checkpoint::open(folder));
  loader::TensorSource tensors(checkpoint);
  PlannedParameters source(&tensors);
  const kernels::PackShapesOnly shapes;
  MOLE_ASSIGN_OR_RETURN(const auto decoder, build(*checkpoint, options, source));
  const ModelInfo& info = decoder->info();
  const Json& config = checkpoint->config();
  const int64_t rotated =
      info.kv_rope_elements > 0
          ? info.kv_rope_elements
          : config.value("head_dim", config.value("hidden_size", int64_t{0}) /
                                         config.value("num_attention_heads", int64_t{1}));
  return LoadPlan{.info = info,
                  .checkpoint_bytes = checkpoint->weight_bytes(),
                  .table_bytes = info.context_length * rotated * dtype_bytes(DType::kFloat32),
                  .transient_bytes = source.transient_bytes(),
                  .workspace = workspace_of(config, info)};
}

/// Torch's and our own exceptions end here.
template <typename Result, typename Run>
StatusOr<Result> guarded(const std::filesystem::path& folder, Run run) {
  try {
    const at::NoGradGuard no_gradients;
    return run();
  } catch (const ConfigTooLarge& error) {
    return absl::InvalidArgumentError(folder.string() + ": " + error.what());
  } catch (const UnusableWeight& error) {
    return absl::DataLossError(folder.string() + ": " + error.what());
  } catch (const std::exception& error) {
    return absl::InternalError(folder.string() + ": " + error.what());
  }
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
  return guarded<std::unique_ptr<Model>>(folder, [&] { return load(folder, options); });
}

StatusOr<LoadPlan> plan_load(const std::filesystem::path& folder, const LoadOptions& options) {
  return guarded<LoadPlan>(folder, [&] { return plan(folder, options); });
}

}  // namespace mole::model
