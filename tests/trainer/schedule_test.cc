#include "trainer/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace mole::trainer {
namespace {

Schedule schedule(ScheduleShape shape) {
  Schedule out;
  out.shape = shape;
  out.peak = 2e-3;
  out.minimum = 2e-4;
  out.warmup_steps = 100;
  out.steps = 1100;
  out.decay_steps = 200;
  return out;
}

TEST(Schedule, WarmsUpInAStraightLineToThePeak) {
  for (auto shape : {ScheduleShape::kCosine, ScheduleShape::kLinear, ScheduleShape::kWsd,
                     ScheduleShape::kConstant}) {
    for (int64_t step = 1; step <= 100; ++step) {
      EXPECT_DOUBLE_EQ(learning_rate(schedule(shape), step),
                       2e-3 * static_cast<double>(step) / 100);
    }
  }
}

TEST(Schedule, EachStepIsTheClosedForm) {
  for (int64_t step = 100; step <= 1100; ++step) {
    const double done = static_cast<double>(step - 100) / 1000.0;
    EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kCosine), step),
                     2e-4 + 1.8e-3 * (1 + std::cos(std::numbers::pi * done)) / 2);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kLinear), step), 2e-3 - 1.8e-3 * done);
    const double decayed = step <= 900 ? 0.0 : static_cast<double>(step - 900) / 200.0;
    EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kWsd), step), 2e-3 - 1.8e-3 * decayed);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kConstant), step), 2e-3);
  }
}

TEST(Schedule, StaysAtTheMinimumPastTheEnd) {
  EXPECT_NEAR(learning_rate(schedule(ScheduleShape::kCosine), 5000), 2e-4, 1e-18);
  EXPECT_NEAR(learning_rate(schedule(ScheduleShape::kWsd), 5000), 2e-4, 1e-18);
}

TEST(Schedule, NoWarmupStartsAtThePeak) {
  Schedule none = schedule(ScheduleShape::kCosine);
  none.warmup_steps = 0;
  EXPECT_NEAR(learning_rate(none, 1), none.peak, 1e-8);  // cos(pi / 1100) is 4e-6 below 1
}

}  // namespace
}  // namespace mole::trainer
