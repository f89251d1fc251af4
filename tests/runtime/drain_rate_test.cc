#include "runtime/drain_rate.h"

#include <gtest/gtest.h>

namespace mole::runtime {
namespace {

TEST(DrainRateTest, GuessesBeforeItHasMeasured) {
  const DrainRate rate;
  EXPECT_EQ(rate.retry_after_ms(0, 500), 1000);
}

TEST(DrainRateTest, TellsHowLongTheQueueTakes) {
  DrainRate rate;
  for (TimeUs now = 0; now <= 1'000'000; now += 50'000) rate.left(now, true);
  EXPECT_EQ(rate.retry_after_ms(1'000'000, 10), 500);
}

TEST(DrainRateTest, StaysInItsBounds) {
  DrainRate rate;
  rate.left(0, true);
  rate.left(10, true);
  EXPECT_EQ(rate.retry_after_ms(10, 1), kRetryAfterMsMin);
  EXPECT_EQ(rate.retry_after_ms(10, 1'000'000'000'000), kRetryAfterMsMax);
}

TEST(DrainRateTest, AQueueThatStandsStillCountsAsSlow) {
  DrainRate rate;
  rate.left(0, true);
  rate.left(1'000, true);
  EXPECT_EQ(rate.retry_after_ms(5'001'000, 2), 10'000);
}

TEST(DrainRateTest, GapsWithoutAQueueSayNothing) {
  DrainRate rate;
  rate.left(0, false);
  rate.left(60'000'000, false);
  EXPECT_EQ(rate.retry_after_ms(60'000'000, 3), 1000);
}

}  // namespace
}  // namespace mole::runtime
