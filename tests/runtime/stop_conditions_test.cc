#include "runtime/stop_conditions.h"

#include <vector>

#include <gtest/gtest.h>

namespace mole::runtime {
namespace {

const std::vector<TokenId> kEos = {1, 2};

SamplingParams params(int32_t max_tokens) {
  SamplingParams sampling;
  sampling.max_tokens = max_tokens;
  return sampling;
}

TEST(StopConditionsTest, EosStops) {
  EXPECT_EQ(finish_reason_after(2, 1, params(5), kEos), FinishReason::kStop);
  EXPECT_EQ(finish_reason_after(3, 1, params(5), kEos), FinishReason::kNone);
}

TEST(StopConditionsTest, IgnoredEosGoesOnButItsOwnStopTokensStop) {
  SamplingParams sampling = params(5);
  sampling.ignore_eos = true;
  sampling.stop_token_ids = {2};
  EXPECT_EQ(finish_reason_after(1, 1, sampling, kEos), FinishReason::kNone);
  EXPECT_EQ(finish_reason_after(2, 1, sampling, kEos), FinishReason::kStop);
}

TEST(StopConditionsTest, LengthStopsAtMaxTokensAndAStopTokenThereIsAStop) {
  EXPECT_EQ(finish_reason_after(3, 4, params(5), kEos), FinishReason::kNone);
  EXPECT_EQ(finish_reason_after(3, 5, params(5), kEos), FinishReason::kLength);
  EXPECT_EQ(finish_reason_after(1, 5, params(5), kEos), FinishReason::kStop);
}

}  // namespace
}  // namespace mole::runtime
