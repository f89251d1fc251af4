// One training run: model, optimizer, data, checkpoints and logs, and the loop over optimizer
// steps. The bits of the weights after step n are a function of configuration and data alone: not
// of the number of threads, nor of how often the run was killed and resumed. Thread: one owner.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "model/trainable.h"
#include "text/tokenizer.h"
#include "trainer/checkpoint_store.h"
#include "trainer/config.h"
#include "trainer/data/batch.h"
#include "trainer/data/dataset.h"
#include "trainer/data/sampler.h"
#include "trainer/evaluate.h"
#include "trainer/expert_balance.h"
#include "trainer/optimizer.h"
#include "trainer/run_log.h"
#include "trainer/run_state.h"

namespace mole::trainer {

struct ResumeOptions {
  std::string from = "auto";  // auto (the newest whole checkpoint, else from nothing), never, or a
                              // checkpoint's folder
  bool allow_config_change = false;  // go on although the configuration's identity differs
};

class TrainingRun {
 public:
  /// Errors: kInvalidArgument (configuration, or it differs from the checkpoint's), kNotFound
  /// (data), kDataLoss (data or checkpoints), kAlreadyExists (`never`, but the folder has
  /// checkpoints).
  static StatusOr<std::unique_ptr<TrainingRun>> open(const TrainConfig& config,
                                                     const ResumeOptions& resume);

  /// Runs to the last step, or until `*stop` becomes true (then with a checkpoint of where it is).
  /// Errors: kOutOfRange (loss, gradient or held-out loss is not finite: names the step), kInternal
  /// (a step failed, or three checkpoints in a row could not be written).
  Status run(const std::atomic<bool>& stop);

 private:
  TrainingRun() = default;
  Status open_data();
  Status resume_from(const ResumeOptions& resume);
  Status resume_checkpoint(const LoadedCheckpoint& checkpoint, bool allow_config_change);
  Status step();
  Status accumulate(StepRecord* record, ExpertLoads* loads);
  void fill_batch();
  StatusOr<EvalResult> evaluate();
  Status save();
  Json state() const;

  TrainConfig config_;
  TokenDataset data_;
  std::shared_ptr<const text::Tokenizer> tokenizer_;
  std::unique_ptr<model::Trainable> model_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<CheckpointStore> store_;
  std::optional<WindowSampler> sampler_;
  std::optional<RunLog> log_;
  SteadyClock clock_;
  RunPosition position_;
  TokenBatch batch_;
  int failed_saves_ = 0;  // in a row
};

}  // namespace mole::trainer
