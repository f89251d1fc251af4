#include "kernels/torch/expert_bank.h"

#include "base/check.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

namespace {

std::vector<float*> expert_pointers(const at::Tensor& bank) {
  std::vector<float*> pointers;
  const int64_t each = bank.size(1) * bank.size(2);
  for (int64_t e = 0; e < bank.size(0); ++e) pointers.push_back(bank.data_ptr<float>() + e * each);
  return pointers;
}

/// All experts' matrices, rounded: [E * rows, columns].
at::Tensor rounded(const at::Tensor& bank, DType dtype) {
  const at::Tensor matrix = bank.detach().view({bank.size(0) * bank.size(1), bank.size(2)});
  return cast(matrix, dtype);
}

}  // namespace

ExpertBank::ExpertBank(int64_t num_experts, int64_t hidden, int64_t width, DType dtype)
    : num_experts_(num_experts), hidden_(hidden), width_(width), dtype_(dtype) {
  experts_.reserve(static_cast<size_t>(num_experts));
}

ExpertBank::ExpertBank(at::Tensor gate_up, at::Tensor down, at::Tensor gate_up_grad,
                       at::Tensor down_grad, DType dtype, WeightVersion version)
    : num_experts_(gate_up.size(0)),
      hidden_(gate_up.size(2)),
      width_(gate_up.size(1) / 2),
      dtype_(dtype),
      gate_up_(std::move(gate_up)),
      down_(std::move(down)),
      gate_up_grad_(std::move(gate_up_grad)),
      down_grad_(std::move(down_grad)),
      gate_up_grads_(expert_pointers(gate_up_grad_)),
      down_grads_(expert_pointers(down_grad_)),
      experts_(static_cast<size_t>(num_experts_)),
      experts_t_(static_cast<size_t>(num_experts_)),
      version_(std::move(version)) {
  check_tensor("experts' down", down_, {num_experts_, hidden_, width_}, DType::kFloat32);
}

void ExpertBank::add(const at::Tensor& gate_up, const at::Tensor& down) {
  MOLE_CHECK_LT(static_cast<int64_t>(experts_.size()), num_experts_);
  check_tensor("expert gate_up", gate_up, {2 * width_, hidden_}, dtype_);
  check_tensor("expert down", down, {hidden_, width_}, dtype_);
  ExpertWeights& expert = experts_.emplace_back();
  expert.gate_up.pack(gate_up.data_ptr(), dtype_, 2 * width_, hidden_, hidden_, false, team());
  expert.down.pack(down.data_ptr(), dtype_, hidden_, width_, width_, false, team());
}

void ExpertBank::add(std::span<const PlainMatrix> gate_up, const PlainMatrix& down) {
  MOLE_CHECK_LT(static_cast<int64_t>(experts_.size()), num_experts_);
  ExpertWeights& expert = experts_.emplace_back();
  pack_parts(gate_up, dtype_, expert.gate_up, team());
  pack_parts({&down, 1}, dtype_, expert.down, team());
  MOLE_CHECK_EQ(expert.gate_up.n(), 2 * width_);
  MOLE_CHECK_EQ(expert.gate_up.k(), hidden_);
  MOLE_CHECK_EQ(expert.down.n(), hidden_);
  MOLE_CHECK_EQ(expert.down.k(), width_);
}

void ExpertBank::add(std::span<const QuantizedMatrix> gate_up, const QuantizedMatrix& down) {
  MOLE_CHECK_LT(static_cast<int64_t>(experts_.size()), num_experts_);
  ExpertWeights& expert = experts_.emplace_back();
  pack_quantized(gate_up, expert.gate_up, team());
  pack_quantized({&down, 1}, expert.down, team());
  MOLE_CHECK_EQ(expert.gate_up.n(), 2 * width_);
  MOLE_CHECK_EQ(expert.gate_up.k(), hidden_);
  MOLE_CHECK_EQ(expert.down.n(), hidden_);
  MOLE_CHECK_EQ(expert.down.k(), width_);
}

std::span<const ExpertWeights> ExpertBank::experts() {
  if (trainable() && made_ != *version_) {
    const at::Tensor gate_up = rounded(gate_up_, dtype_), down = rounded(down_, dtype_);
    for (int64_t e = 0; e < num_experts_; ++e) {
      ExpertWeights& expert = experts_[static_cast<size_t>(e)];
      expert.gate_up.pack(element(gate_up, e * 2 * width_, 0), dtype_, 2 * width_, hidden_, hidden_,
                          false, team());
      expert.down.pack(element(down, e * hidden_, 0), dtype_, hidden_, width_, width_, false,
                       team());
    }
    made_ = *version_;
  }
  MOLE_CHECK_EQ(static_cast<int64_t>(experts_.size()), num_experts_);
  return experts_;
}

std::span<const ExpertWeightsT> ExpertBank::experts_t() {
  MOLE_CHECK(trainable());
  if (made_t_ != *version_) {
    const at::Tensor gate_up = rounded(gate_up_, dtype_), down = rounded(down_, dtype_);
    for (int64_t e = 0; e < num_experts_; ++e) {
      ExpertWeightsT& expert = experts_t_[static_cast<size_t>(e)];
      expert.gate_up_t.pack(element(gate_up, e * 2 * width_, 0), dtype_, hidden_, 2 * width_,
                            hidden_, true, team());
      expert.down_t.pack(element(down, e * hidden_, 0), dtype_, width_, hidden_, width_, true,
                         team());
    }
    made_t_ = *version_;
  }
  return experts_t_;
}

int64_t ExpertBank::resident_bytes() const {
  int64_t bytes = 0;
  for (const ExpertWeights& expert : experts_)
    bytes += expert.gate_up.bytes() + expert.down.bytes();
  for (const ExpertWeightsT& expert : experts_t_) {
    bytes += expert.gate_up_t.bytes() + expert.down_t.bytes();
  }
  return bytes;
}

}  // namespace mole::kernels
