// Model's implementation over a decoder: checks a step, runs it without gradients, makes its
// logits.
#pragma once

#include <memory>

#include "model/layers/decoder.h"
#include "model/model.h"

namespace mole::model {

class ServingModel final : public Model {
 public:
  explicit ServingModel(std::unique_ptr<Decoder> decoder);

  const ModelInfo& info() const override { return decoder_->info(); }
  Status forward(const StepInput& input, KvCache& cache, StepOutput* output) override;
  std::vector<int64_t> take_expert_loads() override;

 private:
  Status run(const StepInput& input, KvCache& cache, StepOutput* output);
  void add_loads(const StepContext& step);

  std::unique_ptr<Decoder> decoder_;
  at::Tensor logits_;  // of the last step
  std::vector<int64_t> loads_;
};

}  // namespace mole::model
