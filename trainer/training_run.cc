#include "trainer/training_run.h"

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/log.h"

namespace mole::trainer {
namespace {

constexpr int kFailedSavesMax = 3;

model::TrainableOptions model_options(const TrainConfig& config) {
  return {.dtype = config.dtype == "bfloat16" ? DType::kBFloat16 : DType::kFloat32,
          .threads = static_cast<int32_t>(config.threads),
          .seed = static_cast<uint64_t>(config.seed)};
}

Status not_finite(const std::string& what, int64_t step) {
  return absl::OutOfRangeError("step " + std::to_string(step) + ": the " + what +
                               " is not finite; the last checkpoint is untouched");
}

}  // namespace

StatusOr<std::unique_ptr<TrainingRun>> TrainingRun::open(const TrainConfig& config,
                                                         const ResumeOptions& resume) {
  std::unique_ptr<TrainingRun> run(new TrainingRun());
  run->config_ = config;
  MOLE_RETURN_IF_ERROR(run->open_data());
  MOLE_ASSIGN_OR_RETURN(run->model_, model::Trainable::create(config.model, model_options(config)));
  if (run->data_.vocab_size() > run->model_->info().vocab_size) {
    return absl::InvalidArgumentError(
        "model.vocab_size: " + std::to_string(run->model_->info().vocab_size) +
        ", accepted: at least the tokenizer's " + std::to_string(run->data_.vocab_size()));
  }
  if (config.sequence_length > run->model_->info().context_length) {
    return absl::InvalidArgumentError(
        "data.sequence_length: " + std::to_string(config.sequence_length) +
        ", accepted: at most model.max_position_embeddings, " +
        std::to_string(run->model_->info().context_length));
  }
  run->optimizer_ = std::make_unique<Optimizer>(run->model_->parameters(), config);
  MOLE_ASSIGN_OR_RETURN(run->store_,
                        CheckpointStore::open(std::filesystem::path(config.output) / "checkpoints",
                                              config.checkpoint_keep));
  MOLE_RETURN_IF_ERROR(run->resume_from(resume));
  MOLE_ASSIGN_OR_RETURN(run->log_, RunLog::open(config, run->position_.step));
  const model::ModelInfo& info = run->model_->info();
  log::info("model", {{"architecture", info.architecture},
                      {"parameters", info.num_parameters},
                      {"active_parameters", info.num_active_parameters},
                      {"training_tokens", run->data_.train().count()},
                      {"heldout_tokens", run->data_.heldout().count()},
                      {"step", run->position_.step}});
  return run;
}

Status TrainingRun::open_data() {
  MOLE_ASSIGN_OR_RETURN(data_, TokenDataset::open(config_.data, true));
  MOLE_ASSIGN_OR_RETURN(tokenizer_, text::Tokenizer::load(config_.tokenizer));
  const int64_t usable = data_.train().count() - (config_.window_bos ? 0 : 1);
  if (usable < 2 * config_.sequence_length) {
    return absl::InvalidArgumentError("data.folder: " + config_.data + " has " +
                                      std::to_string(data_.train().count()) +
                                      " training tokens, accepted: at least two windows of " +
                                      std::to_string(config_.sequence_length));
  }
  sampler_.emplace(usable, config_.sequence_length, static_cast<uint64_t>(config_.seed));
  return absl::OkStatus();
}

Status TrainingRun::resume_from(const ResumeOptions& resume) {
  if (resume.from == "never") {
    if (store_->steps().empty()) return absl::OkStatus();
    return absl::AlreadyExistsError(
        config_.output + ": has checkpoints; accepted with --resume never: a new folder");
  }
  if (resume.from != "auto") {
    MOLE_ASSIGN_OR_RETURN(const auto checkpoint, CheckpointStore::load(resume.from));
    return resume_checkpoint(checkpoint, resume.allow_config_change);
  }
  MOLE_ASSIGN_OR_RETURN(const auto newest, store_->load_newest());
  if (!newest.has_value()) return absl::OkStatus();
  return resume_checkpoint(*newest, resume.allow_config_change);
}

Status TrainingRun::resume_checkpoint(const LoadedCheckpoint& checkpoint,
                                      bool allow_config_change) {
  const Json& before = checkpoint.state;
  try {
    std::vector<std::string> changed = differences(before.at("identity"), config_.identity());
    if (before.at("data_digest") != data_.digest()) changed.push_back("the data's manifest");
    if (!changed.empty() && !allow_config_change) {
      std::string list;
      for (const std::string& change : changed) list += (list.empty() ? "" : "; ") + change;
      return absl::InvalidArgumentError(checkpoint.folder.string() +
                                        ": was made by another configuration: " + list +
                                        " (--allow-config-change goes on nevertheless)");
    }
    position_.step = before.at("step").get<int64_t>();
    position_.cursor = before.at("cursor").get<int64_t>();
    position_.tokens_seen = before.at("tokens_seen").get<int64_t>();
  } catch (const Json::exception& error) {
    return absl::DataLossError(checkpoint.folder.string() + ": state: " + error.what());
  }
  MOLE_RETURN_IF_ERROR(restore_parameters(checkpoint, *model_));
  MOLE_RETURN_IF_ERROR(restore_moments(checkpoint, *model_, *optimizer_));
  log::info("resumed", {{"checkpoint", checkpoint.folder.string()}, {"step", position_.step}});
  return absl::OkStatus();
}

Status TrainingRun::run(const std::atomic<bool>& stop) {
  const int64_t last =
      config_.stop_after > 0 ? std::min(config_.stop_after, config_.steps) : config_.steps;
  bool saved = true;  // nothing new since the last checkpoint
  while (position_.step < last && !stop) {
    MOLE_RETURN_IF_ERROR(step());
    saved = false;
    if (config_.checkpoint_every > 0 && position_.step % config_.checkpoint_every == 0) {
      MOLE_RETURN_IF_ERROR(save());
      saved = failed_saves_ == 0;
    }
  }
  if (saved) return absl::OkStatus();
  MOLE_RETURN_IF_ERROR(save());
  if (failed_saves_ == 0) return absl::OkStatus();
  return absl::InternalError("the last checkpoint could not be written");
}

void TrainingRun::fill_batch() {
  batch_.clear();
  const int64_t length = config_.sequence_length + (config_.window_bos ? 0 : 1);
  std::vector<TokenId> window(static_cast<size_t>(length));
  for (int64_t i = 0; i < config_.batch_sequences; ++i) {
    data_.train().read(sampler_->window_begin(position_.cursor + i), window);
    if (config_.window_bos) batch_.add_after_bos(data_.bos_token_id(), window);
    if (!config_.window_bos) batch_.add_shifted(data_.bos_token_id(), window);
  }
}

Status TrainingRun::accumulate(StepRecord* record, ExpertLoads* loads) {
  const int64_t micro =
      config_.micro_batch_sequences > 0 ? config_.micro_batch_sequences : config_.batch_sequences;
  const double tokens = static_cast<double>(std::max<int64_t>(batch_.counted_tokens(), 1));
  const double sequences = static_cast<double>(config_.batch_sequences);
  model_->zero_grad();
  for (int64_t begin = 0; begin < config_.batch_sequences; begin += micro) {
    MOLE_ASSIGN_OR_RETURN(model::LossResult result,
                          model_->loss(batch_.view(begin, begin + micro),
                                       {.token_scale = 1.0 / tokens,
                                        .balance_scale = config_.balance_loss / sequences}));
    result.loss.backward();
    record->loss += result.negative_log_likelihood / tokens;
    const double layers = static_cast<double>(std::max<size_t>(result.expert_loads.size(), 1));
    record->balance_loss += result.balance_loss / sequences / layers;
    add_loads(result.expert_loads, loads);
  }
  return absl::OkStatus();
}

Status TrainingRun::step() {
  const TimeUs begin_us = clock_.now_us();
  const int64_t number = position_.step + 1;
  fill_batch();
  StepRecord record;
  ExpertLoads loads;
  MOLE_RETURN_IF_ERROR(accumulate(&record, &loads));
  if (!std::isfinite(record.loss)) return not_finite("loss", number);
  record.gradient_norm = optimizer_->gradient_norm();
  if (!std::isfinite(record.gradient_norm)) return not_finite("gradient", number);

  record.learning_rate = learning_rate(config_.learning_rate_schedule(), number);
  optimizer_->update(number, record.learning_rate, record.gradient_norm);
  update_biases(loads, config_.bias_update_speed, model_->buffers());
  model_->weights_changed();

  position_.step = number;
  position_.cursor += config_.batch_sequences;
  position_.tokens_seen += batch_.counted_tokens();
  record.step = number;
  record.tokens_seen = position_.tokens_seen;
  record.tokens_per_s = static_cast<double>(batch_.num_tokens()) * 1e6 /
                        static_cast<double>(std::max<TimeUs>(clock_.now_us() - begin_us, 1));
  if (number % config_.log_every == 0) MOLE_RETURN_IF_ERROR(log_->step(record, loads));
  const bool evaluates = config_.eval_every > 0 && data_.heldout().count() > 0 &&
                         (number % config_.eval_every == 0 || number == config_.steps);
  if (!evaluates) return absl::OkStatus();
  MOLE_ASSIGN_OR_RETURN(const EvalResult result, evaluate());
  if (!std::isfinite(result.loss())) return not_finite("held-out loss", number);
  return log_->evaluation(number, result);
}

StatusOr<EvalResult> TrainingRun::evaluate() {
  const int64_t micro =
      config_.micro_batch_sequences > 0 ? config_.micro_batch_sequences : config_.batch_sequences;
  int64_t tokens = data_.heldout().count();
  if (config_.eval_sequences > 0) {
    tokens = std::min(tokens, config_.eval_sequences * config_.sequence_length);
  }
  std::vector<TokenId> ids(static_cast<size_t>(tokens));
  data_.heldout().read(0, ids);
  Evaluator evaluator(*model_, *tokenizer_, data_.bos_token_id(), micro);
  MOLE_RETURN_IF_ERROR(evaluator.add_tokens(ids, config_.sequence_length));
  return evaluator.finish();
}

Json TrainingRun::state() const {
  return {{"step", position_.step},
          {"cursor", position_.cursor},
          {"tokens_seen", position_.tokens_seen},
          {"identity", config_.identity()},
          {"config", config_.to_json()},
          {"data_digest", data_.digest()},
          {"bos_token_id", data_.bos_token_id()},
          {"eos_token_id", data_.eos_token_id()}};
}

Status TrainingRun::save() {
  const Status status =
      store_->save(position_.step, checkpoint_files(*model_, *optimizer_), state());
  if (status.ok()) {
    failed_saves_ = 0;
    log::info("checkpoint", {{"step", position_.step}});
    return absl::OkStatus();
  }
  ++failed_saves_;
  log::error("checkpoint not written",
             {{"step", position_.step}, {"error", std::string(status.message())}});
  if (failed_saves_ < kFailedSavesMax) return absl::OkStatus();
  return annotate(status, std::to_string(kFailedSavesMax) + " checkpoints in a row failed");
}

}  // namespace mole::trainer
