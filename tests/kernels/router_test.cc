#include "kernels/router/router.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/kernels/op_support.h"

namespace mole::kernels::testing {
namespace {

constexpr auto kSoftmax = RouterScore::kSoftmax;
constexpr auto kSigmoid = RouterScore::kSigmoid;
constexpr auto kMax = RouterGroupScore::kGroupMax;
constexpr auto kTop2 = RouterGroupScore::kGroupTop2;

const RouterConfig kConfigs[] = {
    {kSoftmax, 8, 2, 1, 1, kMax, true, 1.0f},      // Mixtral
    {kSoftmax, 64, 6, 1, 1, kMax, false, 1.0f},    // V2-Lite
    {kSoftmax, 160, 6, 8, 3, kMax, false, 16.0f},  // V2
    {kSigmoid, 256, 8, 8, 4, kTop2, true, 2.5f},   // V3
    {kSigmoid, 16, 4, 4, 2, kTop2, true, 1.5f},    // small, groups of 4
    {kSigmoid, 21, 21, 1, 1, kTop2, false, 1.0f},  // all experts, no multiple of 16
    {kSoftmax, 1, 1, 1, 1, kMax, true, 1.0f},      // one expert
    {kSoftmax, 6, 2, 3, 1, kTop2, true, 0.5f},     // one group, all of it
};

struct Case {
  Case(const RouterConfig& c, int64_t t, bool with_bias, double grid)
      : config(c),
        tokens(t),
        logits(t * c.num_experts),
        bias(c.num_experts),
        weights(t * c.top_k),
        scores(t * c.num_experts),
        dweights(random_values<float>(t * c.top_k, 43)),
        dscores(random_values<float>(t * c.num_experts, 44)),
        dlogits(t * c.num_experts),
        ids(t * c.top_k),
        biased(with_bias) {
    Random random(41);
    // grid > 0: few distinct values, so that ties are common.
    auto draw = [&] {
      const double x = 2 * random.normal();
      return grid > 0 ? std::round(x / grid) * grid : x;
    };
    for (int64_t i = 0; i < logits.size(); ++i) assign(logits[i], draw());
    for (int64_t i = 0; i < bias.size(); ++i) assign(bias[i], draw() / 8);
    for (int64_t i = 0; i < ids.size(); ++i) ids[i] = -7;
  }
  RouterArgs forward() {
    return {config,         logits.data(), biased ? bias.data() : nullptr, tokens, ids.data(),
            weights.data(), scores.data()};
  }
  void run(ThreadTeam& team) {
    router(forward(), team);
    router_backward({forward(), dweights.data(), dscores.data(), dlogits.data()}, team);
  }
  bool same_bits(const Case& other) const {
    return ids.same_bits(other.ids) && weights.same_bits(other.weights) &&
           scores.same_bits(other.scores) && dlogits.same_bits(other.dlogits);
  }
  RouterConfig config;
  int64_t tokens;
  Guarded<float> logits, bias, weights, scores, dweights, dscores, dlogits;
  Guarded<int32_t> ids;
  bool biased;
};

/// Relative error of a score in roundoffs: rounding of x - max (at most 40 here) through exp, exp
/// itself (2 units in the last place = 4 roundoffs), the sum over experts, and the division.
double score_error(const RouterConfig& config) { return 40.0 + 4 + config.num_experts + 2; }

void check_against_reference(Case& c) {
  const std::vector<double> logits = c.logits.doubles(), bias = c.bias.doubles();
  std::vector<int32_t> ids(static_cast<size_t>(c.ids.size()));
  std::vector<double> weights(ids.size()), scores(logits.size()), dlogits(logits.size());
  router_ref(c.config, logits.data(), c.biased ? bias.data() : nullptr, c.tokens, ids.data(),
             weights.data(), scores.data());
  for (size_t i = 0; i < ids.size(); ++i) {
    ASSERT_EQ(ids[i], c.ids[static_cast<int64_t>(i)]) << "choice " << i << " " << seed_text();
  }
  const double error = score_error(c.config) * kRoundoff;
  std::vector<double> score_bound, weight_bound, gradient_bound;
  for (double s : scores) score_bound.push_back(error * s);
  for (double w : weights) weight_bound.push_back((2 * error + 4 * kRoundoff) * w);
  expect_within(c.scores.doubles(), scores, score_bound, "scores");
  expect_within(c.weights.doubles(), weights, weight_bound, "weights");

  const std::vector<double> dweights = c.dweights.doubles(), dscores = c.dscores.doubles();
  router_backward_ref(c.config, logits.data(), ids.data(), dweights.data(), dscores.data(),
                      c.tokens, dlogits.data());
  const int64_t experts = c.config.num_experts, top_k = c.config.top_k;
  for (int64_t t = 0; t < c.tokens; ++t) {
    // Every term of ds, in absolute value; each carries a few score errors.
    double sum = 0, largest = 0, total = 0;
    for (int64_t k = 0; k < top_k; ++k) sum += scores[t * experts + ids[t * top_k + k]];
    for (int64_t k = 0; k < top_k; ++k) largest += std::abs(dweights[t * top_k + k]);
    const double own = 2 * c.config.scale * largest / (c.config.normalize ? sum : 1.0);
    for (int64_t e = 0; e < experts; ++e) {
      total += scores[t * experts + e] * (std::abs(dscores[t * experts + e]) + own);
    }
    for (int64_t e = 0; e < experts; ++e) {
      const double s = scores[t * experts + e], ds = std::abs(dscores[t * experts + e]) + own;
      gradient_bound.push_back((5 * error + (16.0 + static_cast<double>(experts)) * kRoundoff) * s *
                               (c.config.score == kSoftmax ? ds + total : ds));
    }
  }
  expect_within(c.dlogits.doubles(), dlogits, gradient_bound, "dlogits");
  EXPECT_TRUE(c.weights.guards_intact() && c.scores.guards_intact() && c.ids.guards_intact() &&
              c.dlogits.guards_intact());
}

TEST(Router, MatchesReferenceWithEqualBitsEverywhere) {
  for (const RouterConfig& config : kConfigs) {
    for (int64_t tokens : {0, 1, 37}) {
      for (bool biased : {false, true}) {
        for (double grid : {0.0, 0.5}) {
          SCOPED_TRACE("experts " + std::to_string(config.num_experts) + " grid " +
                       std::to_string(grid));
          Case first(config, tokens, biased, grid);
          ThreadTeam one(1);
          first.run(one);
          check_against_reference(first);
          for_each_isa_and_team([&](ThreadTeam& team) {
            Case again(config, tokens, biased, grid);
            again.run(team);
            EXPECT_TRUE(first.same_bits(again));
          });
        }
      }
    }
  }
}

std::vector<int32_t> choose(const RouterConfig& config, std::vector<float> logits,
                            const float* bias, std::vector<float>* weights = nullptr) {
  std::vector<int32_t> ids(static_cast<size_t>(config.top_k));
  std::vector<float> out(ids.size());
  ThreadTeam team(1);
  router({config, logits.data(), bias, 1, ids.data(), out.data(), nullptr}, team);
  if (weights != nullptr) *weights = out;
  return ids;
}

TEST(Router, TiesGoToTheLowerId) {
  const RouterConfig config{kSoftmax, 6, 3, 1, 1, kMax, false, 1.0f};
  EXPECT_EQ(choose(config, {1, 2, 1, 2, 1, 1}, nullptr), (std::vector<int32_t>{1, 3, 0}));
}

TEST(Router, BiasChoosesButDoesNotWeigh) {
  const RouterConfig config{kSigmoid, 4, 1, 1, 1, kTop2, false, 1.0f};
  const float bias[] = {0, 0, 5, 0};
  std::vector<float> weights;
  EXPECT_EQ(choose(config, {3, 2, 0, 1}, bias, &weights), std::vector<int32_t>{2});
  EXPECT_EQ(weights[0], 0.5f);
}

TEST(Router, ClosedGroupsStayClosedWhenChoiceScoresAreNegative) {
  // transformers once filled the closed groups with 0, which wins against negative choice scores.
  const RouterConfig config{kSigmoid, 4, 2, 2, 1, kTop2, true, 1.0f};
  const float bias[] = {-3, -3, -2, -2};
  EXPECT_EQ(choose(config, {0, 0, 0, 0}, bias), (std::vector<int32_t>{2, 3}));
}

TEST(Router, GroupScoreByMaximumOrByTopTwo) {
  RouterConfig config{kSigmoid, 6, 1, 2, 1, kMax, false, 1.0f};
  const std::vector<float> logits = {2, -5, -5, 1, 1, -5};
  EXPECT_EQ(choose(config, logits, nullptr), std::vector<int32_t>{0});
  config.group_score = kTop2;
  EXPECT_EQ(choose(config, logits, nullptr), std::vector<int32_t>{3});
}

TEST(Router, NanIsChosenAndShows) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const RouterConfig sigmoid{kSigmoid, 8, 2, 4, 2, kTop2, false, 1.0f};
  std::vector<float> weights;
  const auto ids = choose(sigmoid, {9, 9, 0, 0, 1, nan, 0, 0}, nullptr, &weights);
  EXPECT_EQ(ids[0], 5);
  EXPECT_TRUE(std::isnan(weights[0]));
  EXPECT_EQ(ids[1], 0);

  const RouterConfig softmax{kSoftmax, 5, 3, 1, 1, kMax, true, 1.0f};
  const auto all = choose(softmax, {1, nan, nan, nan, 2}, nullptr, &weights);
  EXPECT_EQ(std::set<int32_t>(all.begin(), all.end()).size(), 3u);
  for (float w : weights) EXPECT_TRUE(std::isnan(w));
}

TEST(Router, ExtremeLogits) {
  const RouterConfig config{kSoftmax, 4, 2, 1, 1, kMax, true, 1.0f};
  std::vector<float> weights;
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(choose(config, {-infinity, 3e38f, 0, -3e38f}, nullptr, &weights),
            (std::vector<int32_t>{1, 0}));
  EXPECT_EQ(weights, (std::vector<float>{1, 0}));
  RouterConfig sigmoid = config;
  sigmoid.score = kSigmoid;
  EXPECT_EQ(choose(sigmoid, {-200, 200, 0, -3e38f}, nullptr, &weights),
            (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(weights[0], 1.0f / 1.5f);
}

TEST(Router, ReferenceGradientMatchesDifferences) {
  for (RouterScore score : {kSoftmax, kSigmoid}) {
    for (bool normalize : {false, true}) {
      const RouterConfig config{score, 7, 3, 1, 1, kMax, normalize, 1.7f};
      std::vector<double> logits = random_doubles(4 * 7, 51);
      const auto dweights = random_doubles(4 * 3, 52), dscores = random_doubles(4 * 7, 53);
      std::vector<double> weights(12), scores(28), dlogits(28);
      std::vector<int32_t> ids(12);
      router_ref(config, logits.data(), nullptr, 4, ids.data(), weights.data(), scores.data());
      router_backward_ref(config, logits.data(), ids.data(), dweights.data(), dscores.data(), 4,
                          dlogits.data());
      auto loss = [&] {
        router_weights_ref(config, logits.data(), ids.data(), 4, weights.data(), scores.data());
        return dot(weights, dweights) + dot(scores, dscores);
      };
      expect_gradient(logits, dlogits, loss, 40, "dlogits");
    }
  }
}

TEST(RouterDeathTest, RefusesMoreChoicesThanOpenExperts) {
  const RouterConfig config{kSigmoid, 8, 5, 4, 2, kTop2, false, 1.0f};
  EXPECT_DEATH(choose(config, std::vector<float>(8, 0.0f), nullptr), "top_k");
}

}  // namespace
}  // namespace mole::kernels::testing
