#include "kernels/cross_entropy/cross_entropy.h"

#include <gtest/gtest.h>

#include "tests/kernels/op_support.h"

namespace mole::kernels::testing {
namespace {

constexpr float kScale = 0.125f;

struct Case {
  Case(int64_t r, int64_t v)
      : rows(r),
        vocab(v),
        logits(random_values<float>(r * v, 61, 4.0)),
        log_probs(r),
        dlogits(r * v),
        logsumexp(r) {
    Random random(62);
    for (int64_t i = 0; i < r; ++i) {
      targets.push_back(i % 3 == 1 ? -1 : static_cast<TokenId>(random.integer(0, v - 1)));
    }
  }
  CrossEntropyArgs args() {
    return {logits.data(), targets.data(), rows, vocab, log_probs.data(), dlogits.data(), kScale};
  }
  void run(ThreadTeam& team) {
    row_logsumexp(logits.data(), rows, vocab, vocab, logsumexp.data(), team);
    cross_entropy(args(), team);
  }
  int64_t rows, vocab;
  Guarded<float> logits, log_probs, dlogits;
  Guarded<double> logsumexp;
  std::vector<TokenId> targets;
};

void check_against_reference(Case& c) {
  const std::vector<double> logits = c.logits.doubles();
  std::vector<double> logsumexp(static_cast<size_t>(c.rows)), log_probs(logsumexp.size()),
      dlogits(logits.size()), sum_bound, log_bound, gradient_bound;
  row_logsumexp_ref(logits.data(), c.rows, c.vocab, logsumexp.data());
  cross_entropy_ref(logits.data(), c.targets.data(), c.rows, c.vocab, kScale, log_probs.data(),
                    dlogits.data());
  // exp(x - max): x - max rounded (one roundoff of at most 60, the spread of these logits), exp's 2
  // units in the last place. The sum is in double, and the logarithm makes the relative error
  // absolute.
  const double exp_error = (60 + 4) * kRoundoff;
  for (double value : log_probs) {
    sum_bound.push_back(exp_error);
    log_bound.push_back(exp_error + kRoundoff * std::abs(value));
  }
  for (size_t i = 0; i < dlogits.size(); ++i) {
    gradient_bound.push_back((2 * exp_error + 4 * kRoundoff) * kScale *
                                 std::exp(logits[i] - logsumexp[i / static_cast<size_t>(c.vocab)]) +
                             kRoundoff * std::abs(dlogits[i]));
  }
  expect_within(c.logsumexp.doubles(), logsumexp, sum_bound, "logsumexp");
  expect_within(c.log_probs.doubles(), log_probs, log_bound, "log_probs");
  expect_within(c.dlogits.doubles(), dlogits, gradient_bound, "dlogits");
  EXPECT_TRUE(c.log_probs.guards_intact() && c.dlogits.guards_intact());
}

TEST(CrossEntropy, MatchesReferenceWithEqualBitsEverywhere) {
  const std::pair<int64_t, int64_t> kShapes[] = {{0, 10}, {1, 1},   {2, 2},    {5, 15},  {4, 16},
                                                 {3, 17}, {7, 257}, {3, 4096}, {2, 5001}};
  for (auto [rows, vocab] : kShapes) {
    SCOPED_TRACE("rows " + std::to_string(rows) + " vocab " + std::to_string(vocab));
    Case first(rows, vocab);
    ThreadTeam one(1);
    first.run(one);
    check_against_reference(first);
    for_each_isa_and_team([&, rows = rows, vocab = vocab](ThreadTeam& team) {
      Case again(rows, vocab);
      again.run(team);
      EXPECT_TRUE(first.logsumexp.same_bits(again.logsumexp));
      EXPECT_TRUE(first.log_probs.same_bits(again.log_probs));
      EXPECT_TRUE(first.dlogits.same_bits(again.dlogits));
    });
  }
}

TEST(CrossEntropy, LogProbabilityIsTheServersBitForBit) {
  Case c(6, 300);
  ThreadTeam team(2);
  c.run(team);
  for (int64_t r = 0; r < c.rows; ++r) {
    const TokenId target = c.targets[static_cast<size_t>(r)];
    if (target < 0) continue;
    EXPECT_EQ(c.log_probs[r], log_probability(c.logits[r * 300 + target], c.logsumexp[r]));
  }
}

TEST(CrossEntropy, GradientMayReplaceTheLogits) {
  Case c(4, 70);
  ThreadTeam team(2);
  c.run(team);
  CrossEntropyArgs args = c.args();
  args.dlogits = c.logits.data();
  cross_entropy(args, team);
  EXPECT_TRUE(c.logits.same_bits(c.dlogits));
}

TEST(CrossEntropy, StridedRowsWithPoisonBetween) {
  Case c(3, 20);
  ThreadTeam team(1);
  c.run(team);
  Guarded<float> strided(3 * 33);
  for (int64_t r = 0; r < 3; ++r) std::memcpy(&strided[r * 33], &c.logits[r * 20], 80);
  Guarded<double> logsumexp(3);
  row_logsumexp(strided.data(), 3, 20, 33, logsumexp.data(), team);
  EXPECT_TRUE(logsumexp.same_bits(c.logsumexp));
}

TEST(CrossEntropy, InfinityIsATokenThatCannotComeAndNanShows) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  ThreadTeam team(1);
  auto logsumexp = [&](std::vector<float> logits) {
    double out = 0;
    row_logsumexp(logits.data(), 1, static_cast<int64_t>(logits.size()), 0, &out, team);
    return out;
  };
  EXPECT_EQ(logsumexp({-infinity, 2.5f, -infinity}), 2.5);
  for (int64_t at : {0, 3, 16, 19}) {
    std::vector<float> logits(20, 1.0f);
    logits[static_cast<size_t>(at)] = nan;
    EXPECT_TRUE(std::isnan(logsumexp(logits))) << at;
  }
  EXPECT_TRUE(std::isnan(logsumexp({1, infinity})));
  EXPECT_TRUE(std::isnan(logsumexp({-infinity, -infinity})));
  EXPECT_EQ(log_probability(-infinity, 2.5), -infinity);
}

TEST(CrossEntropy, LargeLogitsDoNotOverflow) {
  const std::vector<float> logits = {3e38f, -3e38f, 3e38f};
  double out = 0;
  ThreadTeam team(1);
  row_logsumexp(logits.data(), 1, 3, 3, &out, team);
  EXPECT_EQ(out, static_cast<double>(3e38f) + std::log(2.0));
}

TEST(CrossEntropy, ReferenceGradientMatchesDifferences) {
  std::vector<double> logits = random_doubles(3 * 9, 71), log_probs(3), dlogits(27), unused(27);
  const std::vector<TokenId> targets = {4, -1, 8};
  cross_entropy_ref(logits.data(), targets.data(), 3, 9, 1.0, log_probs.data(), dlogits.data());
  auto loss = [&] {
    cross_entropy_ref(logits.data(), targets.data(), 3, 9, 1.0, log_probs.data(), unused.data());
    return -(log_probs[0] + log_probs[1] + log_probs[2]);
  };
  expect_gradient(logits, dlogits, loss, 27, "dlogits");
}

TEST(CrossEntropyDeathTest, RefusesATargetPastTheVocabulary) {
  Case c(1, 10);
  c.targets[0] = 10;
  ThreadTeam team(1);
  EXPECT_DEATH(c.run(team), "10 vs 10");
}

}  // namespace
}  // namespace mole::kernels::testing
