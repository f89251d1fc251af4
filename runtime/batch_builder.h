// From the plan of a step to the flat arrays that a model takes. All memory is taken at
// construction. Thread: engine.
#pragma once

#include <cstdint>
#include <vector>

#include "model/model.h"
#include "runtime/step_plan.h"

namespace mole::runtime {

struct BatchBuilderOptions {
  int32_t max_tokens = 0;
  int32_t max_sequences = 0;
  int32_t max_logit_rows = 0;
  int32_t max_blocks_per_sequence = 0;
};

class BatchBuilder {
 public:
  explicit BatchBuilder(const BatchBuilderOptions& options);

  /// The input of the plan's step, chunk i being its sequence i. Valid until the next call.
  model::StepInput build(const StepPlan& plan);

 private:
  void add_tokens(const PlannedChunk& chunk);

  const BatchBuilderOptions options_;
  std::vector<TokenId> token_ids_;
  std::vector<int32_t> positions_;
  std::vector<int32_t> sequence_starts_;
  std::vector<model::AttentionForm> forms_;
  std::vector<int32_t> block_tables_;
  std::vector<int32_t> logit_rows_;
};

}  // namespace mole::runtime
