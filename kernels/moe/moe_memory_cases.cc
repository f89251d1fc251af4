// moe with experts that come from memory, as in a large model's step: layers in turn, and other
// experts of a layer every time.
#include <set>

#include "kernels/cases/memory_weights.h"
#include "kernels/linear/linear_impl.h"
#include "kernels/moe/moe_cases.h"

namespace mole::kernels {
namespace {

using Layers = std::vector<std::vector<ExpertWeights>>;

/// Layers of kMemoryWeightBytes together. What the last call returned lives until one asks for
/// another shape.
std::shared_ptr<const Layers> memory_layers(const MoeShape& shape, ThreadTeam& team) {
  static std::shared_ptr<Layers> kept;
  static MoeShape of;
  if (kept != nullptr && of.experts == shape.experts && of.hidden == shape.hidden &&
      of.width == shape.width) {
    return kept;
  }
  kept = std::make_shared<Layers>();
  of = shape;
  const int64_t bytes = 6 * shape.experts * shape.hidden * shape.width;
  kept->resize(static_cast<std::size_t>(ceil_div(kMemoryWeightBytes, bytes)));
  for (auto& layer : *kept) {
    layer.resize(static_cast<std::size_t>(shape.experts));
    for (ExpertWeights& expert : layer) {
      fill_weight(expert.gate_up, 2 * shape.width, shape.hidden, team);
      fill_weight(expert.down, shape.hidden, shape.width, team);
    }
  }
  return kept;
}

class MoeMemoryCase : public KernelCase {
 public:
  MoeMemoryCase(const MoeShape& shape, CaseRandom& random)
      : shape_(shape),
        x_(shape.dtype, shape.tokens, shape.hidden),
        y_(shape.dtype, shape.tokens, shape.hidden),
        weights_(DType::kFloat32, shape.tokens, shape.top_k),
        choices_(random_choices(shape, random)),
        ids_(choices_) {
    x_.fill_normal(random);
    weights_.fill_normal(random);
  }

  std::string name() const override {
    return "tokens=" + std::to_string(shape_.tokens) + " hidden=" + std::to_string(shape_.hidden) +
           " width=" + std::to_string(shape_.width) + " experts=" + std::to_string(shape_.experts) +
           " top_k=" + std::to_string(shape_.top_k) + " touched=" + std::to_string(touched());
  }
  double flops() const override {
    return 6.0 * static_cast<double>(shape_.tokens * shape_.top_k * shape_.hidden * shape_.width);
  }
  double bytes() const override {  // of the touched experts' weights
    return 6.0 * static_cast<double>(touched() * shape_.hidden * shape_.width);
  }
  DType dtype() const override { return shape_.dtype; }
  std::vector<Tensor*> outputs() override { return {&y_}; }
  std::vector<Expectation> expect() override { return {}; }

  void run(ThreadTeam& team) override {
    if (layers_ == nullptr) layers_ = memory_layers(shape_, team);
    const auto shift = static_cast<int64_t>(runs_ / layers_->size()) * 5;
    for (std::size_t i = 0; i < ids_.size(); ++i) {
      ids_[i] = static_cast<int32_t>((choices_[i] + shift) % shape_.experts);
    }
    MoeArgs args{.x = x_.data(), .dtype = shape_.dtype, .tokens = shape_.tokens};
    args.hidden = shape_.hidden;
    args.expert_width = shape_.width;
    args.top_k = shape_.top_k;
    args.expert_ids = ids_.data();
    args.weights = weights_.as<float>();
    args.experts = (*layers_)[runs_++ % layers_->size()];
    args.y = y_.data();
    moe(args, team);
  }

 private:
  int64_t touched() const {
    return static_cast<int64_t>(std::set<int32_t>(choices_.begin(), choices_.end()).size());
  }

  MoeShape shape_;
  Tensor x_, y_, weights_;
  std::vector<int32_t> choices_, ids_;
  std::shared_ptr<const Layers> layers_;
  std::size_t runs_ = 0;
};

}  // namespace

std::vector<std::function<CasePtr(CaseRandom&)>> moe_memory_cases() {
  std::vector<std::function<CasePtr(CaseRandom&)>> out;
  for (const int64_t experts : {16, 64}) {
    for (const int64_t tokens : {1, 8, 32, 512}) {
      const MoeShape shape{DType::kBFloat16, tokens, 2048, 1408, experts, 6};
      out.push_back([shape](CaseRandom& random) -> CasePtr {
        return std::make_unique<MoeMemoryCase>(shape, random);
      });
    }
  }
  return out;
}

}  // namespace mole::kernels
