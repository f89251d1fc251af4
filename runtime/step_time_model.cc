#include "runtime/step_time_model.h"

#include <algorithm>
#include <cmath>

namespace mole::runtime {
namespace {

const double kKeep = std::exp2(-1 / StepTimeModel::kHalfLifeSteps);
// The running mean of the error follows about this many steps.
constexpr double kErrorSteps = 32;
// Errors above so many times the mean one weigh less. For normal errors 2.5 means 2 sigma.
constexpr double kHuber = 2.5;
// An error counts at most so much in the mean: one stalled step must not open the door to the next.
constexpr double kErrorCap = 1.0;
// A cost that few steps have shown moves carefully: by 1 / (1 + kCaution / steps) of the way.
constexpr double kCaution = 1.0;
constexpr int kPasses = 3;

}  // namespace

void StepTimeModel::observe(const StepWork& work, double seconds) {
  if (work.empty() || !(seconds > 0)) return;
  double weight = 1;
  if (cost_.known) {
    const double error = std::abs(cost_.predict(work) / seconds - 1);
    const double usual = std::max(kHuber * mean_error_, 1e-3);
    weight = error > usual ? usual / error : 1;
    mean_error_ += (std::min(error, kErrorCap) - mean_error_) / kErrorSteps;
  }
  StepFactors relative = work.factors(cost_.expert_share);
  for (double& factor : relative) factor /= seconds;
  fade();
  learn(relative, weight);
  for (int pass = 0; pass < kPasses; ++pass) improve(relative);
  cost_.known = ++num_steps_ >= kStepsToKnow;
}

void StepTimeModel::fade() {
  for (size_t i = 0; i < kStepFactors; ++i) {
    for (double& product : products_[i]) product *= kKeep;
    targets_[i] *= kKeep;
    seen_[i] *= kKeep;
  }
}

void StepTimeModel::learn(const StepFactors& relative, double weight) {
  for (size_t i = 0; i < kStepFactors; ++i) {
    if (relative[i] == 0) continue;
    for (size_t j = 0; j < kStepFactors; ++j) {
      products_[i][j] += weight * relative[i] * relative[j];
    }
    targets_[i] += weight * relative[i];
    seen_[i] += 1;
  }
}

void StepTimeModel::improve(const StepFactors& relative) {
  for (size_t i = 0; i < kStepFactors; ++i) {
    if (relative[i] == 0) continue;
    double slope = targets_[i];
    for (size_t j = 0; j < kStepFactors; ++j) slope -= products_[i][j] * cost_.seconds[j];
    const double move = slope / (products_[i][i] * (1 + kCaution / seen_[i]));
    cost_.seconds[i] = std::max(0.0, cost_.seconds[i] + move);
  }
}

}  // namespace mole::runtime
