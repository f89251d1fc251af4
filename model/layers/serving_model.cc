#include "model/layers/serving_model.h"

#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cstring>
#include <exception>

#include "kernels/torch/ops.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"
#include "model/layers/step_check.h"

namespace mole::model {

namespace {

/// Rows `rows` of x [T, D], one after the other.
at::Tensor take_rows(const at::Tensor& x, std::span<const int32_t> rows) {
  const int64_t count = static_cast<int64_t>(rows.size());
  const at::Tensor taken = kernels::empty({count, x.size(1)}, kernels::dtype_of(x));
  const size_t bytes = static_cast<size_t>(x.size(1)) * x.element_size();
  for (int64_t r = 0; r < count; ++r) {
    std::memcpy(kernels::element(taken, r, 0), kernels::element(x, rows[static_cast<size_t>(r)], 0),
                bytes);
  }
  return taken;
}

}  // namespace

ServingModel::ServingModel(std::unique_ptr<Decoder> decoder, int64_t max_step_tokens)
    : decoder_(std::move(decoder)), pool_(max_step_tokens) {
  loads_.resize(static_cast<size_t>(info().num_moe_layers) *
                static_cast<size_t>(info().num_experts));
}

Status ServingModel::forward(const StepInput& input, KvCache& cache, StepOutput* output) {
  try {
    const at::NoGradGuard no_gradients;
    const kernels::TensorPool::Scope scope(&pool_);
    return run(input, cache, output);
  } catch (const std::exception& error) {
    return refuse_step(error.what());
  }
}

Status ServingModel::run(const StepInput& input, KvCache& cache, StepOutput* output) {
  // What the last step left is not needed any more; its memory is.
  for (at::Tensor* kept : {&logits_, &hidden_, &draft_logits_, &draft_state_}) kept->reset();
  output->logits = {};
  MOLE_RETURN_IF_ERROR(fill_context(input, info(), cache, &step_));
  if (input.token_ids.empty()) return absl::OkStatus();
  at::Tensor hidden;
  if (input.wave.num_sequences > 0) {
    MOLE_ASSIGN_OR_RETURN(hidden, wave_.forward(input, cache, *decoder_, step_));
  } else {
    hidden = decoder_->hidden(input.token_ids, step_);
  }
  for (size_t i = 0; i < step_.expert_loads.size(); ++i) loads_[i] += step_.expert_loads[i];
  if (info().num_mtp_layers > 0) hidden_ = hidden;
  if (input.logit_rows.empty()) return absl::OkStatus();
  const at::Tensor wanted = take_rows(hidden, input.logit_rows);
  logits_ = kernels::linear(decoder_->normalize(wanted), decoder_->head(), DType::kFloat32);
  output->logits = {logits_.data_ptr<float>(), static_cast<size_t>(logits_.numel())};
  return absl::OkStatus();
}

Status ServingModel::draft(const DraftInput& input, KvCache& cache, StepOutput* output) {
  if (info().num_mtp_layers == 0) return Model::draft(input, cache, output);
  try {
    const at::NoGradGuard no_gradients;
    const kernels::TensorPool::Scope scope(&pool_);
    return run_draft(input, cache, output);
  } catch (const std::exception& error) {
    return refuse_step(error.what());
  }
}

Status ServingModel::run_draft(const DraftInput& input, KvCache& cache, StepOutput* output) {
  draft_logits_.reset();
  output->logits = {};
  MOLE_RETURN_IF_ERROR(fill_context(input.step, info(), cache, &step_));
  const bool again = input.source == DraftSource::kDraft;
  const at::Tensor& source = again ? draft_state_ : hidden_;
  const int64_t rows = source.defined() ? source.size(0) : 0;
  if (input.rows.size() != input.step.token_ids.size()) {
    return refuse_step("draft rows and token_ids differ in length");
  }
  for (const int32_t row : input.rows) {
    if (row < 0 || row >= rows) return refuse_step("a draft's row is not of the call before");
  }
  if (input.rows.empty()) return absl::OkStatus();
  const at::Tensor taken = take_rows(source, input.rows);
  draft_state_ =
      decoder_->draft(input.step.token_ids, again ? taken : decoder_->normalize(taken), step_);
  if (input.step.logit_rows.empty()) return absl::OkStatus();
  draft_logits_ = kernels::linear(take_rows(draft_state_, input.step.logit_rows), decoder_->head(),
                                  DType::kFloat32);
  output->logits = {draft_logits_.data_ptr<float>(), static_cast<size_t>(draft_logits_.numel())};
  return absl::OkStatus();
}

kernels::ThreadTeam* ServingModel::workers() { return &kernels::team(); }

std::vector<int64_t> ServingModel::take_expert_loads() {
  std::vector<int64_t> taken(loads_.size(), 0);
  taken.swap(loads_);
  return taken;
}

}  // namespace mole::model
