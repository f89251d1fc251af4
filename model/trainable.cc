#include "model/trainable.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/add.h>

#include <algorithm>
#include <exception>

#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"
#include "model/layers/architecture.h"
#include "model_loader/checkpoint.h"

namespace mole::model {

namespace {

constexpr double kInitializerRange = 0.02;  // transformers' default
constexpr int64_t kRandomParametersMax = int64_t{1} << 36;

Status refuse(const std::string& what) { return absl::InvalidArgumentError("batch: " + what); }

Status check_batch(const SequenceBatch& batch, const ModelInfo& info) {
  const size_t tokens = batch.token_ids.size();
  if (batch.targets.size() != tokens) return refuse("targets and token_ids differ in length");
  if (batch.sequence_starts.empty() || batch.sequence_starts.front() != 0 ||
      batch.sequence_starts.back() != static_cast<int32_t>(tokens)) {
    return refuse("sequence_starts don't cover the rows");
  }
  for (size_t s = 0; s + 1 < batch.sequence_starts.size(); ++s) {
    const int32_t length = batch.sequence_starts[s + 1] - batch.sequence_starts[s];
    if (length < 0 || length > info.context_length) {
      return refuse("sequence " + std::to_string(s) + " has " + std::to_string(length) +
                    " tokens; accepted: 0 to max_position_embeddings = " +
                    std::to_string(info.context_length));
    }
  }
  for (size_t t = 0; t < tokens; ++t) {
    const TokenId id = batch.token_ids[t], target = batch.targets[t];
    if (id < 0 || id >= info.vocab_size || target < -1 || target >= info.vocab_size) {
      return refuse("row " + std::to_string(t) + ": token id " + std::to_string(id) + ", target " +
                    std::to_string(target) + "; accepted: [0, " + std::to_string(info.vocab_size) +
                    "), for targets also -1");
    }
  }
  return absl::OkStatus();
}

/// `prompts` [S] or empty: where each sequence turns from expanded to absorbed.
StepContext make_context(const SequenceBatch& batch, std::span<const int32_t> prompts) {
  StepContext step;
  step.starts.assign(batch.sequence_starts.begin(), batch.sequence_starts.end());
  step.positions = kernels::empty_int32({static_cast<int64_t>(batch.token_ids.size())});
  int32_t* positions = step.positions.data_ptr<int32_t>();
  for (size_t s = 0; s + 1 < step.starts.size(); ++s) {
    const int32_t first = step.starts[s], rows = step.starts[s + 1] - first;
    for (int32_t i = 0; i < rows; ++i) positions[first + i] = i;
    const int32_t prompt = prompts.empty() ? rows : std::clamp(prompts[s], 0, rows);
    if (prompt > 0) {
      step.add({.first_row = first, .num_rows = prompt, .sequence_row = first});
    }
    if (prompt < rows) {
      step.add({.first_row = first + prompt,
                .num_rows = rows - prompt,
                .first_position = prompt,
                .form = AttentionForm::kAbsorbed,
                .sequence_row = first});
    }
  }
  return step;
}

class TrainableModel final : public Trainable {
 public:
  TrainableModel(Json config, std::unique_ptr<ParameterFactory> parameters,
                 std::unique_ptr<Decoder> decoder)
      : config_(std::move(config)),
        parameters_(std::move(parameters)),
        decoder_(std::move(decoder)) {}

  const ModelInfo& info() const override { return decoder_->info(); }
  const Json& config() const override { return config_; }
  const std::vector<NamedTensor>& parameters() const override { return parameters_->parameters(); }
  const std::vector<NamedTensor>& buffers() const override { return parameters_->buffers(); }

  void zero_grad() override {
    for (const at::Tensor& gradient : parameters_->gradients()) gradient.zero_();
  }
  void weights_changed() override { ++*parameters_->version(); }

  StatusOr<LossResult> loss(const SequenceBatch& batch, const LossOptions& options) override;
  Status score(const SequenceBatch& batch, std::span<const int32_t> num_prompt_tokens,
               std::span<float> log_probs) override;
  ExportedTensors export_tensors(DType dtype) const override;

 private:
  Json config_;
  std::unique_ptr<ParameterFactory> parameters_;
  std::unique_ptr<Decoder> decoder_;
};

StatusOr<LossResult> TrainableModel::loss(const SequenceBatch& batch, const LossOptions& options) {
  MOLE_RETURN_IF_ERROR(check_batch(batch, info()));
  try {
    StepContext step = make_context(batch, {});
    step.balance_scale = options.balance_scale;
    const at::Tensor hidden = decoder_->normalize(decoder_->hidden(batch.token_ids, step));
    kernels::LmLoss lm = kernels::lm_loss(hidden, decoder_->head(), batch.targets,
                                          {.token_scale = options.token_scale});
    LossResult result;
    result.loss = step.balance.defined() ? at::add(lm.loss, step.balance) : lm.loss;
    result.negative_log_likelihood = lm.negative_log_likelihood;
    result.counted_tokens = lm.counted;
    result.balance_loss = step.balance_sum;
    const auto experts = static_cast<std::ptrdiff_t>(info().num_experts);
    for (auto it = step.expert_loads.begin(); it != step.expert_loads.end(); it += experts) {
      result.expert_loads.emplace_back(it, it + experts);
    }
    return result;
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("loss: ") + error.what());
  }
}

Status TrainableModel::score(const SequenceBatch& batch, std::span<const int32_t> num_prompt_tokens,
                             std::span<float> log_probs) {
  MOLE_RETURN_IF_ERROR(check_batch(batch, info()));
  if (log_probs.size() != batch.token_ids.size())
    return refuse("log_probs has not one value a row");
  if (!num_prompt_tokens.empty() && num_prompt_tokens.size() + 1 != batch.sequence_starts.size()) {
    return refuse("num_prompt_tokens has not one value a sequence");
  }
  try {
    const at::NoGradGuard no_gradients;
    StepContext step = make_context(batch, num_prompt_tokens);
    const at::Tensor hidden = decoder_->normalize(decoder_->hidden(batch.token_ids, step));
    kernels::lm_score(hidden, decoder_->head(), batch.targets, log_probs);
    return absl::OkStatus();
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("score: ") + error.what());
  }
}

ExportedTensors TrainableModel::export_tensors(DType dtype) const {
  ExportedTensors exported;
  auto add = [&](const std::string& name, const at::Tensor& value, DType stored_as) {
    const at::Tensor flat = value.detach().reshape({1, value.numel()});
    const at::Tensor stored = kernels::cast(flat, stored_as);
    exported.storage.push_back(stored);
    exported.views[name] = {stored_as,
                            value.sizes().vec(),
                            {static_cast<const std::byte*>(stored.data_ptr()), stored.nbytes()}};
  };
  for (const NamedTensor& parameter : parameters()) add(parameter.name, parameter.tensor, dtype);
  for (const NamedTensor& buffer : buffers()) add(buffer.name, buffer.tensor, DType::kFloat32);
  return exported;
}

StatusOr<std::unique_ptr<Trainable>> build(const Json& config, const TrainableOptions& options,
                                           ParameterSource& source, int64_t max_parameters) {
  MOLE_ASSIGN_OR_RETURN(const Architecture* architecture, find_architecture(config));
  kernels::set_team_threads(options.threads);
  auto parameters =
      std::make_unique<ParameterFactory>(&source, options.dtype, true, max_parameters);
  MOLE_ASSIGN_OR_RETURN(auto decoder, architecture->build(config, *parameters));
  return std::make_unique<TrainableModel>(config, std::move(parameters), std::move(decoder));
}

}  // namespace

StatusOr<std::unique_ptr<Trainable>> Trainable::create(const Json& config,
                                                       const TrainableOptions& options) {
  ConfigReader reader(config, "config.json");
  const double range = reader.number_or("initializer_range", kInitializerRange, 0.0, 10.0);
  MOLE_RETURN_IF_ERROR(reader.status());
  try {
    RandomParameters source(options.seed, range);
    return build(config, options, source, kRandomParametersMax);
  } catch (const ConfigTooLarge& error) {
    return absl::InvalidArgumentError(error.what());
  } catch (const std::exception& error) {
    return absl::InternalError(std::string("creating a model: ") + error.what());
  }
}

StatusOr<std::unique_ptr<Trainable>> Trainable::load(const std::filesystem::path& folder,
                                                     const TrainableOptions& options) {
  MOLE_ASSIGN_OR_RETURN(auto checkpoint, loader::Checkpoint::open(folder));
  try {
    loader::TensorSource tensors(checkpoint);
    CheckpointParameters source(&tensors);
    MOLE_ASSIGN_OR_RETURN(
        auto model, build(checkpoint->config(), options, source, 2 * checkpoint->weight_bytes()));
    MOLE_RETURN_IF_ERROR(annotate(tensors.finish().status(), folder.string()));
    return model;
  } catch (const ConfigTooLarge& error) {
    return absl::InvalidArgumentError(folder.string() + ": " + error.what());
  } catch (const std::exception& error) {
    return absl::InternalError(folder.string() + ": " + error.what());
  }
}

}  // namespace mole::model
