// The second half of a layer: a plain SwiGLU, or routed experts with or without shared ones.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "kernels/router/router.h"
#include "kernels/torch/ops.h"
#include "model/layers/parameters.h"
#include "model/layers/step_context.h"

namespace mole::model {

class FeedForward {
 public:
  virtual ~FeedForward() = default;
  /// x [T, D], normalised -> what the residual stream takes in. MoE layers report loads and balance
  /// to `step`.
  virtual kernels::Delta forward(const at::Tensor& x, StepContext& step) = 0;
  virtual int64_t resident_bytes() const = 0;
  /// Loads that forward reports, one an expert; 0 if it has none.
  virtual int32_t num_experts() const { return 0; }
};

/// down(silu(gate x) * up x), tensors prefix + "gate_proj.weight", "up_proj.weight",
/// "down_proj.weight".
class DenseFeedForward final : public FeedForward {
 public:
  DenseFeedForward(int64_t hidden, int64_t width, const std::string& prefix,
                   ParameterFactory& parameters);
  kernels::Delta forward(const at::Tensor& x, StepContext& step) override;
  int64_t resident_bytes() const override;

 private:
  std::unique_ptr<kernels::Weight> gate_up_, down_;
};

struct MoeNames {
  std::string gate;             // [E, D]
  std::string correction_bias;  // [E] float32; "" = none
  std::vector<ExpertNames> experts;
};

class MoeFeedForward final : public FeedForward {
 public:
  /// `shared` may be null; its output is added to the routed sum unscaled.
  MoeFeedForward(const kernels::RouterConfig& router, int64_t hidden, int64_t width,
                 const MoeNames& names, std::unique_ptr<DenseFeedForward> shared,
                 ParameterFactory& parameters);
  kernels::Delta forward(const at::Tensor& x, StepContext& step) override;
  int64_t resident_bytes() const override;
  int32_t num_experts() const override { return router_.num_experts; }

 private:
  /// Appends this layer's tokens per expert to step.expert_loads.
  void add_loads(const at::Tensor& expert_ids, StepContext& step) const;

  kernels::RouterConfig router_;
  std::unique_ptr<kernels::Weight> gate_;
  at::Tensor correction_bias_;
  std::unique_ptr<kernels::ExpertBank> experts_;
  std::unique_ptr<DenseFeedForward> shared_;
};

}  // namespace mole::model
