// The routed experts' weights of one layer: gate and up stacked [E, 2F, D], down [E, D, F]. Serving
// and training as in weight.h.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/linear/quantize.h"
#include "kernels/moe/moe.h"
#include "kernels/torch/weight.h"

namespace mole::kernels {

class ExpertBank {
 public:
  /// Serving: packs expert after expert with `add`, so that plain copies never pile up.
  ExpertBank(int64_t num_experts, int64_t hidden, int64_t width, DType dtype);
  /// gate_up [2F, D], down [D, F], contiguous in the dtype.
  void add(const at::Tensor& gate_up, const at::Tensor& down);
  /// The same from where they lie, gate [F, D] and up [F, D] apart; can_pack_parts of both.
  void add(std::span<const PlainMatrix> gate_up, const PlainMatrix& down);
  /// The same from codes and scales; `gate_up` are the parts that make up [2F, D].
  void add(std::span<const QuantizedMatrix> gate_up, const QuantizedMatrix& down);

  /// Training: float32 masters [E, 2F, D] and [E, D, F], gradients of the same shapes.
  ExpertBank(at::Tensor gate_up, at::Tensor down, at::Tensor gate_up_grad, at::Tensor down_grad,
             DType dtype, WeightVersion version);

  int64_t num_experts() const { return num_experts_; }
  int64_t hidden() const { return hidden_; }
  int64_t width() const { return width_; }
  DType dtype() const { return dtype_; }
  bool trainable() const { return version_ != nullptr; }

  std::span<const ExpertWeights> experts();
  std::span<const ExpertWeightsT> experts_t();  // trainable only
  std::span<float* const> gate_up_grads() const { return gate_up_grads_; }
  std::span<float* const> down_grads() const { return down_grads_; }
  int64_t resident_bytes() const;

 private:
  int64_t num_experts_, hidden_, width_;
  DType dtype_;
  at::Tensor gate_up_, down_, gate_up_grad_, down_grad_;
  std::vector<float*> gate_up_grads_, down_grads_;
  std::vector<ExpertWeights> experts_;
  std::vector<ExpertWeightsT> experts_t_;
  WeightVersion version_;
  uint64_t made_ = ~uint64_t{0}, made_t_ = ~uint64_t{0};
};

}  // namespace mole::kernels
