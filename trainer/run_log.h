// What a run says about itself: log.jsonl (one object a step, one an evaluation), TensorBoard
// events, and a line on stderr. Thread: one owner.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "base/status.h"
#include "trainer/config.h"
#include "trainer/evaluate.h"
#include "trainer/expert_balance.h"
#include "trainer/tracking/jsonl_log.h"
#include "trainer/tracking/tensorboard.h"

namespace mole::trainer {

struct StepRecord {
  int64_t step = 0;
  int64_t tokens_seen = 0;  // of the run so far
  double loss = 0;          // nats a token, over the global batch
  double balance_loss = 0;  // mean over sequences and MoE layers of sum_i f_i P_i; 1 is even
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  double tokens_per_s = 0;
};

class RunLog {
 public:
  /// Lines of log.jsonl past `step` are cut away. Errors: kInternal.
  static StatusOr<RunLog> open(const TrainConfig& config, int64_t step);

  Status step(const StepRecord& record, const ExpertLoads& loads);
  Status evaluation(int64_t step, const EvalResult& result);

 private:
  std::optional<JsonlLog> lines_;
  std::optional<TensorBoardWriter> events_;
};

}  // namespace mole::trainer
