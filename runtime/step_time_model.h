// Learns what steps cost from the steps that were taken: decayed normal equations of a relative
// least-squares fit, one pass of projected coordinate descent a step. Pure: durations come as
// values, so under the simulation's clock it is deterministic.
//
//   - A step counts by its relative error, so that short and long steps weigh the same.
//   - Costs stay >= 0: a factor that seems to make steps faster is left out.
//   - A step that took far longer than others do (the machine was busy elsewhere) counts less
//     (Huber's weight), unless such errors are the rule by now.
//   - Old steps fade (half of their weight after kHalfLifeSteps). Only the costs of factors that a
//     step had are moved by it, so that a long stretch of decoding does not wash out what prompts
//     cost.
// Fixed memory, O(kStepFactors^2) a step, no allocation. Thread: one at a time.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/step_cost.h"

namespace mole::runtime {

class StepTimeModel {
 public:
  static constexpr double kHalfLifeSteps = 200;
  static constexpr int64_t kStepsToKnow = 8;

  /// `expert_share` as in StepCost.
  explicit StepTimeModel(double expert_share) { cost_.expert_share = expert_share; }

  /// A step of that work took `seconds`. Ignored: steps without work, times that are not above 0.
  void observe(const StepWork& work, double seconds);

  const StepCost& cost() const { return cost_; }
  /// Mean of |predicted - actual| / actual over the last steps, recent ones counting most. 0 before
  /// the first prediction.
  double mean_error() const { return mean_error_; }

 private:
  void fade();
  void learn(const StepFactors& relative, double weight);
  void improve(const StepFactors& relative);

  StepCost cost_;
  std::array<StepFactors, kStepFactors> products_{};  // sums of weight x factor x factor
  StepFactors targets_{};                             // sums of weight x factor (the target is 1)
  StepFactors seen_{};                                // decayed number of steps with this factor
  double mean_error_ = 0;
  int64_t num_steps_ = 0;
};

}  // namespace mole::runtime
