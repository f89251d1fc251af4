#include <algorithm>
#include <cmath>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/router/router.h"

namespace mole::kernels {
namespace {

/// docs/numerics.md, "router": relative error of a score for logits within 64 of each other.
double score_error(int32_t experts) { return steps_tolerance(64 + 8 + experts, 1); }

class RouterCase : public KernelCase {
 public:
  RouterCase(const RouterConfig& config, int64_t tokens, CaseRandom& random)
      : config_(config),
        logits_(DType::kFloat32, tokens, config.num_experts),
        bias_(DType::kFloat32, 1, config.num_experts),
        weights_(DType::kFloat32, tokens, config.top_k),
        scores_(DType::kFloat32, tokens, config.num_experts),
        ids_(DType::kInt32, tokens, config.top_k) {
    logits_.fill_normal(random, 2);
    bias_.fill_normal(random, 0.25);
  }

  std::string name() const override {
    return "tokens=" + std::to_string(logits_.rows()) +
           " experts=" + std::to_string(config_.num_experts) +
           " top_k=" + std::to_string(config_.top_k) +
           " groups=" + std::to_string(config_.num_groups) + "/" +
           std::to_string(config_.topk_groups) +
           (config_.score == RouterScore::kSoftmax ? " softmax" : " sigmoid");
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return (25.0 + config_.top_k) * static_cast<double>(count()); }
  double bytes() const override { return 8.0 * static_cast<double>(count()); }
  std::vector<Tensor*> outputs() override { return {&ids_, &weights_, &scores_}; }
  void run(ThreadTeam& team) override { router(args(0, logits_.rows()), team); }
  int64_t independent_rows() const override { return logits_.rows(); }
  void run_row(int64_t row, ThreadTeam& team) override { router(args(row, 1), team); }

  std::vector<Expectation> expect() override {
    reference();
    const double error = score_error(config_.num_experts);
    Expectation ids{&ids_, "expert_ids", {}, {}}, weights{&weights_, "weights", want_weights_, {}};
    Expectation scores{&scores_, "scores", want_scores_, {}};
    for (const int32_t id : want_ids_) {
      ids.want.push_back(id);
      ids.tolerance.push_back(0);
    }
    for (const double w : want_weights_) {
      weights.tolerance.push_back((2 * error + steps_tolerance(4, 1)) * w);
    }
    for (const double s : want_scores_) scores.tolerance.push_back(error * s);
    return {ids, weights, scores};
  }

 protected:
  int64_t count() const { return logits_.count(); }
  RouterArgs args(int64_t first, int64_t tokens) {
    return {.config = config_,
            .logits = static_cast<const float*>(logits_.row(first)),
            .correction_bias = config_.score == RouterScore::kSigmoid ? bias_.as<float>() : nullptr,
            .tokens = tokens,
            .expert_ids = static_cast<int32_t*>(ids_.row(first)),
            .weights = static_cast<float*>(weights_.row(first)),
            .scores = static_cast<float*>(scores_.row(first))};
  }
  void reference() {
    want_ids_.resize(static_cast<std::size_t>(ids_.count()));
    want_weights_.resize(want_ids_.size());
    want_scores_.resize(static_cast<std::size_t>(count()));
    const std::vector<double> logits = logits_.doubles(), bias = bias_.doubles();
    router_ref(config_, logits.data(),
               config_.score == RouterScore::kSigmoid ? bias.data() : nullptr, logits_.rows(),
               want_ids_.data(), want_weights_.data(), want_scores_.data());
  }

  RouterConfig config_;
  Tensor logits_, bias_, weights_, scores_, ids_;
  std::vector<int32_t> want_ids_;
  std::vector<double> want_weights_, want_scores_;
};

class RouterBackwardCase : public RouterCase {
 public:
  RouterBackwardCase(const RouterConfig& config, int64_t tokens, CaseRandom& random)
      : RouterCase(config, tokens, random),
        dweights_(DType::kFloat32, tokens, config.top_k),
        dscores_(DType::kFloat32, tokens, config.num_experts),
        dlogits_(DType::kFloat32, tokens, config.num_experts) {
    dweights_.fill_normal(random);
    dscores_.fill_normal(random);
    ThreadTeam one(1);
    router(args(0, tokens), one);
  }

  double flops() const override { return 8.0 * static_cast<double>(count()); }
  double bytes() const override { return 12.0 * static_cast<double>(count()); }
  std::vector<Tensor*> outputs() override { return {&dlogits_}; }
  void run(ThreadTeam& team) override { rows(0, logits_.rows(), team); }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    reference();
    const std::vector<double> dweights = dweights_.doubles(), dscores = dscores_.doubles();
    Expectation out{&dlogits_, "dlogits", std::vector<double>(want_scores_.size()), {}};
    router_backward_ref(config_, logits_.doubles().data(), want_ids_.data(), dweights.data(),
                        dscores.data(), logits_.rows(), out.want.data());
    const int64_t experts = config_.num_experts, top_k = config_.top_k;
    const double relative = 5 * score_error(config_.num_experts) + steps_tolerance(16 + experts, 1);
    for (int64_t t = 0; t < logits_.rows(); ++t) {
      // Every term of the gradient in absolute value.
      double chosen = 0, pull = 0, total = 0;
      for (int64_t k = 0; k < top_k; ++k) {
        const auto at = static_cast<std::size_t>(t * top_k + k);
        chosen += want_scores_[static_cast<std::size_t>(t * experts + want_ids_[at])];
        pull += std::abs(dweights[at]);
      }
      const double own = 2 * config_.scale * pull / (config_.normalize ? chosen : 1.0);
      for (int64_t e = 0; e < experts; ++e) {
        const auto at = static_cast<std::size_t>(t * experts + e);
        total += want_scores_[at] * (std::abs(dscores[at]) + own);
      }
      for (int64_t e = 0; e < experts; ++e) {
        const auto at = static_cast<std::size_t>(t * experts + e);
        const double ds = std::abs(dscores[at]) + own;
        const bool softmax = config_.score == RouterScore::kSoftmax;
        out.tolerance.push_back(relative * want_scores_[at] * (softmax ? ds + total : ds) +
                                rounding_tolerance(0, DType::kFloat32));
      }
    }
    return {out};
  }

 private:
  void rows(int64_t first, int64_t tokens, ThreadTeam& team) {
    router_backward(
        {args(first, tokens), static_cast<const float*>(dweights_.row(first)),
         static_cast<const float*>(dscores_.row(first)), static_cast<float*>(dlogits_.row(first))},
        team);
  }

  Tensor dweights_, dscores_, dlogits_;
};

RouterConfig awkward_config(CaseRandom& random) {
  RouterConfig config;
  config.score = random.coin() ? RouterScore::kSoftmax : RouterScore::kSigmoid;
  config.num_groups = static_cast<int32_t>(random.pick({1, 1, 2, 3, 8}));
  const auto size = static_cast<int32_t>(random.between(2, 20));
  config.num_experts = size * config.num_groups;
  config.topk_groups = static_cast<int32_t>(random.between(1, config.num_groups));
  config.top_k = static_cast<int32_t>(random.between(1, std::min(8, size * config.topk_groups)));
  config.group_score = random.coin() ? RouterGroupScore::kGroupMax : RouterGroupScore::kGroupTop2;
  config.normalize = random.coin();
  config.scale = random.coin() ? 1.0f : 2.5f;
  return config;
}

template <typename Case>
OpCases cases(const std::string& op) {
  OpCases out{op,
              [](CaseRandom& random) -> CasePtr {
                const RouterConfig config = awkward_config(random);
                return std::make_unique<Case>(config, random.awkward_rows(), random);
              },
              {}};
  const RouterConfig bench[] = {
      {RouterScore::kSoftmax, 64, 6, 1, 1, RouterGroupScore::kGroupMax, false, 1.0f},
      {RouterScore::kSigmoid, 256, 8, 8, 4, RouterGroupScore::kGroupTop2, true, 2.5f}};
  for (const RouterConfig& config : bench) {
    out.bench.push_back([config](CaseRandom& random) -> CasePtr {
      return std::make_unique<Case>(config, 8192, random);
    });
  }
  return out;
}

}  // namespace

std::vector<OpCases> router_cases() {
  return {cases<RouterCase>("router"), cases<RouterBackwardCase>("router_backward")};
}

}  // namespace mole::kernels
