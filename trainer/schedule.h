// The learning rate of each optimizer step. Pure: a function of the step and the configuration, so
// a resumed run needs no state of it.
#pragma once

#include <cstdint>
#include <string>

namespace mole::trainer {

enum class ScheduleShape {
  kCosine,    // half a cosine from the peak to the minimum
  kLinear,    // a straight line from the peak to the minimum
  kWsd,       // the peak, then a straight line over the last decay_steps (warm-up, stable, decay)
  kConstant,  // the peak
};

struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 1e-3;        // reached at the end of the warm-up
  double minimum = 1e-4;     // reached at the last step
  int64_t warmup_steps = 0;  // linear from peak / warmup_steps to peak
  int64_t steps = 1;         // of the whole run
  int64_t decay_steps = 0;   // kWsd only
};

/// The rate of `step` (from 1 to steps; later steps stay at the minimum, for kConstant at the
/// peak).
double learning_rate(const Schedule& schedule, int64_t step);

}  // namespace mole::trainer
