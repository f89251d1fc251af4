#include "trainer/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace mole::trainer {
namespace {

/// How much of the way from peak to minimum is done, in [0, 1].
double progress(int64_t step, int64_t begin, int64_t end) {
  if (step >= end) return 1.0;
  if (step <= begin) return 0.0;
  return static_cast<double>(step - begin) / static_cast<double>(end - begin);
}

}  // namespace

double learning_rate(const Schedule& schedule, int64_t step) {
  if (step < schedule.warmup_steps) {
    return schedule.peak * static_cast<double>(step) / static_cast<double>(schedule.warmup_steps);
  }
  const double span = schedule.peak - schedule.minimum;
  switch (schedule.shape) {
    case ScheduleShape::kCosine: {
      const double done = progress(step, schedule.warmup_steps, schedule.steps);
      return schedule.minimum + span * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
    }
    case ScheduleShape::kLinear:
      return schedule.peak - span * progress(step, schedule.warmup_steps, schedule.steps);
    case ScheduleShape::kWsd: {
      const int64_t begin = std::max(schedule.warmup_steps, schedule.steps - schedule.decay_steps);
      return schedule.peak - span * progress(step, begin, schedule.steps);
    }
    case ScheduleShape::kConstant:
      return schedule.peak;
  }
  return schedule.peak;
}

}  // namespace mole::trainer
