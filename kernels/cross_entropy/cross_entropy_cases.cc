#include <algorithm>
#include <cmath>

#include "kernels/cases/case.h"
#include "kernels/cases/tolerance.h"
#include "kernels/cross_entropy/cross_entropy.h"

namespace mole::kernels {
namespace {

constexpr double kSpread = 3;  // of the logits
constexpr float kScale = 0.25f;

class CrossEntropyCase : public KernelCase {
 public:
  CrossEntropyCase(int64_t rows, int64_t vocab, CaseRandom& random)
      : logits_(DType::kFloat32, rows, vocab),
        log_probs_(DType::kFloat32, rows, 1),
        dlogits_(DType::kFloat32, rows, vocab) {
    logits_.fill_normal(random, kSpread);
    for (int64_t r = 0; r < rows; ++r) {
      targets_.push_back(static_cast<TokenId>(random.between(-1, vocab - 1)));
    }
  }

  std::string name() const override {
    return "rows=" + std::to_string(logits_.rows()) + " vocab=" + std::to_string(logits_.columns());
  }
  DType dtype() const override { return DType::kFloat32; }
  double flops() const override { return 45.0 * static_cast<double>(logits_.count()); }
  double bytes() const override { return 8.0 * static_cast<double>(logits_.count()); }
  std::vector<Tensor*> outputs() override { return {&log_probs_, &dlogits_}; }
  void run(ThreadTeam& team) override { rows(0, logits_.rows(), team); }
  int64_t independent_rows() const override { return logits_.rows(); }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    const std::vector<double> logits = logits_.doubles();
    Expectation log_probs{&log_probs_, "log_probs", std::vector<double>(targets_.size()), {}};
    Expectation dlogits{&dlogits_, "dlogits", std::vector<double>(logits.size()), {}};
    cross_entropy_ref(logits.data(), targets_.data(), logits_.rows(), logits_.columns(), kScale,
                      log_probs.want.data(), dlogits.want.data());
    const auto vocab = static_cast<std::size_t>(logits_.columns());
    for (std::size_t r = 0; r < targets_.size(); ++r) {
      const auto [low, high] = std::minmax_element(&logits[r * vocab], &logits[r * vocab] + vocab);
      // exp(x - max): the argument's rounding, exp's two units; the logarithm makes it absolute.
      const double relative = steps_tolerance(5, 1) + steps_tolerance(1, *high - *low);
      log_probs.tolerance.push_back(relative +
                                    rounding_tolerance(log_probs.want[r], DType::kFloat32));
      for (std::size_t i = r * vocab; i < (r + 1) * vocab; ++i) {
        // At most |softmax| + 1 at the target.
        const bool target = static_cast<TokenId>(i - r * vocab) == targets_[r];
        const double softmax = target ? dlogits.want[i] + kScale : dlogits.want[i];
        dlogits.tolerance.push_back(2 * relative * std::abs(softmax) +
                                    steps_tolerance(4, std::abs(softmax)) +
                                    rounding_tolerance(dlogits.want[i], DType::kFloat32));
      }
    }
    return {log_probs, dlogits};
  }

 private:
  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    cross_entropy({.logits = static_cast<const float*>(logits_.row(first)),
                   .targets = targets_.data() + first,
                   .rows = count,
                   .vocab = logits_.columns(),
                   .log_probs = static_cast<float*>(log_probs_.row(first)),
                   .dlogits = static_cast<float*>(dlogits_.row(first)),
                   .dloss_scale = kScale},
                  team);
  }

  Tensor logits_, log_probs_, dlogits_;
  std::vector<TokenId> targets_;
};

}  // namespace

std::vector<OpCases> cross_entropy_cases() {
  return {{"cross_entropy",
           [](CaseRandom& random) -> CasePtr {
             const int64_t rows = random.awkward_rows();
             return std::make_unique<CrossEntropyCase>(
                 rows, random.coin() ? random.awkward_size() : random.between(1, 3000), random);
           },
           {[](CaseRandom& random) -> CasePtr {
             return std::make_unique<CrossEntropyCase>(2048, 4096, random);
           }}}};
}

}  // namespace mole::kernels
