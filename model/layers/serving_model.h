// Model's implementation over a decoder: checks a step, runs it without gradients, makes its
// logits.
#pragma once

#include <memory>

#include "kernels/torch/tensor_pool.h"
#include "model/layers/decoder.h"
#include "model/layers/step_context.h"
#include "model/layers/wave.h"
#include "model/model.h"

namespace mole::model {

class ServingModel final : public Model {
 public:
  /// `max_step_tokens`: rows that the working memory is made for at once; 0 = as steps come.
  ServingModel(std::unique_ptr<Decoder> decoder, int64_t max_step_tokens);

  const ModelInfo& info() const override { return decoder_->info(); }
  Status forward(const StepInput& input, KvCache& cache, StepOutput* output) override;
  Status draft(const DraftInput& input, KvCache& cache, StepOutput* output) override;
  kernels::ThreadTeam* workers() override;
  std::vector<int64_t> take_expert_loads() override;

 private:
  Status run(const StepInput& input, KvCache& cache, StepOutput* output);
  Status run_draft(const DraftInput& input, KvCache& cache, StepOutput* output);

  std::unique_ptr<Decoder> decoder_;
  kernels::TensorPool pool_;  // outlives every tensor below
  StepContext step_;
  Wave wave_;
  at::Tensor logits_;        // of the last forward
  at::Tensor hidden_;        // of all its rows, before the final norm; with a module only
  at::Tensor draft_logits_;  // of the last draft
  at::Tensor draft_state_;   // what its rows go on from
  std::vector<int64_t> loads_;
};

}  // namespace mole::model
