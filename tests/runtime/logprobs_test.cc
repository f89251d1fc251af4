#include "runtime/logprobs.h"

#include <cmath>
#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace mole::runtime {
namespace {

TEST(LogprobScorerTest, AgreesWithTheFormulaInDouble) {
  constexpr unsigned kSeed = 3;
  std::mt19937 random(kSeed);
  std::normal_distribution<float> normal(0, 4);
  std::vector<float> logits(1000);
  for (float& logit : logits) logit = normal(random);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  LogprobScorer scorer;
  const TokenLogprobs scored = *scorer.score(logits, 17, 5);
  const double expected = static_cast<double>(logits[17]) - std::log(sum);
  // The sum's order may differ: a few roundings of double, then one of float32.
  const double bound = std::abs(expected) * std::numeric_limits<float>::epsilon();
  EXPECT_NEAR(scored.logprob, expected, bound) << "seed " << kSeed;
  ASSERT_EQ(scored.top.size(), 5u);
  for (size_t i = 1; i < 5; ++i) EXPECT_GE(scored.top[i - 1].second, scored.top[i].second);
}

TEST(LogprobScorerTest, TheTokenAmongTheTopHasTheSameBits) {
  const std::vector<float> logits = {1.25f, 3.5f, -2.0f, 3.5f};
  LogprobScorer scorer;
  const TokenLogprobs scored = *scorer.score(logits, 3, 2);
  ASSERT_EQ(scored.top.size(), 2u);
  EXPECT_EQ(scored.top[0].first, 1);  // a tie: the lower id first
  EXPECT_EQ(scored.top[1].first, 3);
  EXPECT_EQ(scored.top[1].second, scored.logprob);
}

TEST(LogprobScorerTest, MoreThanTheVocabularyIsTheVocabulary) {
  LogprobScorer scorer;
  EXPECT_EQ(scorer.score(std::vector<float>{1, 2}, 0, 20)->top.size(), 2u);
  EXPECT_EQ(scorer.score(std::vector<float>{1, 2}, 0, 0)->top.size(), 0u);
}

TEST(LogprobScorerTest, NanIsAnError) {
  LogprobScorer scorer;
  const std::vector<float> logits = {1, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_EQ(scorer.score(logits, 0, 0).status().code(), absl::StatusCode::kInternal);
}

}  // namespace
}  // namespace mole::runtime
