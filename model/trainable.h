// A model with float32 master parameters that can be trained, scored and exported. The forward is
// the server's, operation by operation: with dtype bfloat16 every parameter is rounded exactly as
// export rounds it before it is used, so `score` gives the bits that the server reports.
//
// Gradients: each parameter's `.grad()` is a buffer of fixed address that backward adds to. Clear
// them with `zero_grad`, never by resetting `.grad()`. After changing values call
// `weights_changed`. Thread: one caller at a time; work is split over the process-wide team
// (TrainableOptions::threads).
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/ids.h"
#include "base/json.h"
#include "base/status.h"
#include "model/layers/named_tensor.h"
#include "model/model.h"
#include "model_loader/tensor_view.h"

namespace mole::model {

struct TrainableOptions {
  DType dtype = DType::kFloat32;  // of weights as used and of activations: float32 or bfloat16
  int32_t threads = 0;            // of the kernels' team; 0 = all cores
  uint64_t seed = 0;  // of random initial values; each depends on (seed, name, index) only
};

/// Whole sequences, one after the other; each starts at position 0 and sees only itself.
struct SequenceBatch {
  std::span<const TokenId> token_ids;  // [T]
  std::span<const int32_t>
      sequence_starts;               // [S+1]; rows of sequence s are [starts[s], starts[s+1])
  std::span<const TokenId> targets;  // [T], what should follow row t; -1 = not counted
};

struct LossOptions {
  /// Each counted token adds -log p * token_scale to the loss, usually 1 / counted tokens of the
  /// whole global batch (over all micro-batches and ranks).
  double token_scale = 1.0;
  /// Each sequence and MoE layer adds balance_scale * sum_i f_i P_i (DeepSeek-V3, arXiv 2412.19437,
  /// eq. 17-20), usually coefficient / sequences of the global batch. 0 = none.
  double balance_scale = 0.0;
};

struct LossResult {
  at::Tensor loss;  // 0-dim float32; call backward() on it, once, without scaling it
  double negative_log_likelihood = 0;  // sum over the counted tokens, not scaled
  int64_t counted_tokens = 0;
  double balance_loss = 0;  // sum over sequences and MoE layers of sum_i f_i P_i, not scaled;
                            // computed only if balance_scale != 0
  std::vector<std::vector<int64_t>> expert_loads;  // [MoE layers][E] tokens routed to each expert
};

/// Tensors in Hugging Face's names as a checkpoint holds them, with the memory behind the views.
struct ExportedTensors {
  std::map<std::string, loader::TensorView> views;
  std::vector<at::Tensor> storage;
};

class Trainable {
 public:
  virtual ~Trainable() = default;

  /// Random initial values: normal with standard deviation initializer_range, norms one, biases
  /// zero. Errors: kInvalidArgument (config: key, value, accepted), kUnimplemented (model_type).
  static StatusOr<std::unique_ptr<Trainable>> create(const Json& config,
                                                     const TrainableOptions& options);
  /// Values from a checkpoint directory. Errors as model::load_model.
  static StatusOr<std::unique_ptr<Trainable>> load(const std::filesystem::path& folder,
                                                   const TrainableOptions& options);

  virtual const ModelInfo& info() const = 0;
  virtual const Json& config() const = 0;  // as given

  /// Leaves that require a gradient, in an order fixed by the configuration.
  virtual const std::vector<NamedTensor>& parameters() const = 0;
  /// Values without gradient that belong to the checkpoint, always stored in float32:
  /// "model.layers.N.mlp.gate.e_score_correction_bias" [E], one per MoE layer in order, if any.
  virtual const std::vector<NamedTensor>& buffers() const = 0;

  virtual void zero_grad() = 0;
  /// Call after changing any parameter or buffer: what was derived from them is made again.
  virtual void weights_changed() = 0;

  /// Forward of a batch, recorded for backward unless gradients are switched off (at::NoGradGuard).
  /// Errors: kInvalidArgument (ids, starts, lengths out of range), kInternal.
  virtual StatusOr<LossResult> loss(const SequenceBatch& batch, const LossOptions& options) = 0;

  /// Log-probability of each row's target (0 where not counted) -> log_probs [T]; no gradients.
  /// `num_prompt_tokens` [S], or empty for "all": tokens past it are computed in absorbed form as
  /// the server computes generated tokens, so that a completion's log-probabilities come out equal.
  virtual Status score(const SequenceBatch& batch, std::span<const int32_t> num_prompt_tokens,
                       std::span<float> log_probs) = 0;

  /// All parameters in `dtype` (float32 or bfloat16, rounded to nearest even) and all buffers.
  virtual ExportedTensors export_tensors(DType dtype) const = 0;
};

}  // namespace mole::model
