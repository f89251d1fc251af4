#include "runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/philox.h"
#include "kernels/cpu/isa.h"

namespace mole::runtime {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

class SamplerTest : public ::testing::Test {
 protected:
  StatusOr<TokenId> sample(const std::vector<float>& logits) {
    context_.params = &params_;
    Sampler sampler(static_cast<int32_t>(logits.size()));
    return sampler.sample(logits, context_);
  }
  // How often each token comes in `draws` positions.
  std::vector<int> histogram(const std::vector<float>& logits, int draws) {
    context_.params = &params_;
    Sampler sampler(static_cast<int32_t>(logits.size()));
    std::vector<int> counts(logits.size());
    for (int i = 0; i < draws; ++i) {
      context_.position = static_cast<uint64_t>(i);
      ++counts[static_cast<size_t>(*sampler.sample(logits, context_))];
    }
    return counts;
  }

  SamplingParams params_;
  SampleContext context_;
};

TEST_F(SamplerTest, GreedyTakesTheLargestAndTheLowestIdOfATie) {
  params_.temperature = 0;
  EXPECT_EQ(*sample({1, 5, 2}), 1);
  EXPECT_EQ(*sample({1, 5, 5}), 1);
  EXPECT_EQ(*sample({-kInf, -kInf, -3}), 2);
}

TEST_F(SamplerTest, FrequenciesAreTheSoftmax) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, -1.0f};
  constexpr int kDraws = 20000;
  for (const double temperature : {0.5, 1.0, 2.0}) {
    params_.temperature = temperature;
    double total = 0;
    for (const float logit : logits) total += std::exp(logit / temperature);
    const auto counts = histogram(logits, kDraws);
    for (size_t i = 0; i < logits.size(); ++i) {
      const double p = std::exp(logits[i] / temperature) / total;
      // Five standard deviations of a binomial count; the draws are fixed, so this can't flicker.
      EXPECT_NEAR(counts[i], kDraws * p, 5 * std::sqrt(kDraws * p * (1 - p)));
    }
  }
}

TEST_F(SamplerTest, DependsOnSeedStreamAndPositionOnly) {
  const std::vector<float> logits(50, 0.0f);
  context_.seed = 9;
  context_.stream = 2;
  context_.position = 77;
  const TokenId token = *sample(logits);
  const double u = philox_uniform(9, 77, 2);
  EXPECT_EQ(token, static_cast<TokenId>(u * 50));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(*sample(logits), token);
}

TEST_F(SamplerTest, TopKKeepsTheKLargest) {
  params_.top_k = 2;
  const auto counts = histogram({1, 1, 1, 0.9f, 2}, 2000);
  EXPECT_GT(counts[4], 0);
  EXPECT_GT(counts[0], 0);  // a tie with 1 and 2: the lowest id stays
  EXPECT_EQ(counts[1] + counts[2] + counts[3], 0);
}

TEST_F(SamplerTest, TopPKeepsTheFewestThatReachIt) {
  // Probabilities 0.5, 0.3, 0.2.
  const std::vector<float> logits = {std::log(0.2f), std::log(0.5f), std::log(0.3f)};
  params_.top_p = 0.45;
  EXPECT_EQ(histogram(logits, 500)[1], 500);
  params_.top_p = 0.7;
  const auto two = histogram(logits, 500);
  EXPECT_EQ(two[0], 0);
  EXPECT_GT(two[2], 0);
  params_.top_p = 0.99;
  EXPECT_GT(histogram(logits, 500)[0], 0);
}

TEST_F(SamplerTest, MinPIsRelativeToTheLargest) {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.2f)};
  params_.min_p = 0.5;
  const auto counts = histogram(logits, 500);
  EXPECT_GT(counts[1], 0);
  EXPECT_EQ(counts[2], 0);
}

// Against the plain way: sort everything, cut, renormalise, draw.
TEST_F(SamplerTest, EqualsSortingTheWholeVocabulary) {
  for (unsigned seed = 1; seed <= 60; ++seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, static_cast<float>(1 + seed % 4));
    std::vector<float> logits(seed % 4 == 0 ? 20000 : 2000);
    for (float& logit : logits) logit = std::round(normal(random) * 8) / 8;  // many ties
    params_.temperature = 0.5 + (seed % 3) * 0.5;
    params_.top_k = seed % 2 == 0 ? static_cast<int32_t>(random() % 900) : 0;
    params_.top_p = seed % 3 == 0 ? 1.0 : 0.2 + 0.79 * (static_cast<double>(random() % 100) / 100);
    params_.min_p = seed % 5 == 0 ? 0.05 : 0.0;
    std::vector<TokenId> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](TokenId a, TokenId b) { return logits[a] > logits[b]; });
    if (params_.top_k > 0) order.resize(static_cast<size_t>(params_.top_k));
    std::vector<double> weights;
    for (const TokenId id : order) {
      weights.push_back(std::exp((logits[id] - logits[order[0]]) / params_.temperature));
    }
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<TokenId> kept;
    double sum = 0;
    for (size_t i = 0; i < order.size() && sum < params_.top_p * total; ++i) {
      sum += weights[i];
      if (weights[i] >= params_.min_p) kept.push_back(order[i]);
    }
    context_.seed = seed;
    for (uint64_t position = 0; position < 30; ++position) {
      context_.position = position;
      ASSERT_THAT(kept, ::testing::Contains(*sample(logits))) << "seed " << seed;
    }
  }
}

TEST_F(SamplerTest, OfEqualTokensTheNucleusHasThoseWithTheLowestIds) {
  params_.top_p = 0.25;
  const auto counts = histogram(std::vector<float>(4000, 1.5f), 20000);
  EXPECT_EQ(std::accumulate(counts.begin() + 1000, counts.end(), 0), 0);
  EXPECT_GT(std::count_if(counts.begin(), counts.begin() + 1000, [](int n) { return n > 0; }), 990);
}

TEST_F(SamplerTest, SameTokensOnEveryInstructionSet) {
  const kernels::Isa best = kernels::isa();
  for (unsigned seed = 1; seed <= 40; ++seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 3);
    std::vector<float> logits(1 + random() % 9000);
    for (float& logit : logits) logit = normal(random);
    params_.temperature = 0.4 + 0.3 * static_cast<double>(random() % 4);
    params_.top_k = random() % 2 == 0 ? static_cast<int32_t>(random() % 100) : 0;
    params_.top_p = random() % 2 == 0 ? 0.9 : 1.0;
    params_.min_p = random() % 3 == 0 ? 0.01 : 0.0;
    std::vector<TokenId> tokens;
    for (const kernels::Isa isa :
         {kernels::Isa::kAvx2, kernels::Isa::kAvx512, kernels::Isa::kAmx}) {
      if (!kernels::isa_available(isa)) continue;
      kernels::set_isa_for_test(isa);
      for (context_.position = 0; context_.position < 10; ++context_.position) {
        const TokenId token = *sample(logits);
        if (tokens.size() <= context_.position) tokens.push_back(token);
        ASSERT_EQ(token, tokens[context_.position])
            << "seed " << seed << " " << kernels::isa_name(isa);
      }
    }
    kernels::set_isa_for_test(best);
  }
}

TEST_F(SamplerTest, LogitBiasAddsToTheRawLogit) {
  params_.temperature = 0;
  params_.logit_bias = {{2, 5.0f}, {0, -100.0f}};
  EXPECT_EQ(*sample({6, 5, 1}), 2);
}

TEST_F(SamplerTest, PenaltiesCountWhatTheyShould) {
  params_.temperature = 0;
  const std::vector<TokenId> prompt = {0};
  TokenCounts counts(4, prompt, 4);
  counts.add_generated(1);
  counts.add_generated(1);
  context_.counts = &counts;
  params_.presence_penalty = 1;  // generated tokens only
  EXPECT_EQ(*sample({3.0f, 3.5f, 2.9f, 0}), 0);
  params_.presence_penalty = 0;
  params_.frequency_penalty = 0.4;  // twice
  EXPECT_EQ(*sample({0, 3.5f, 2.8f, 0}), 2);
  EXPECT_EQ(*sample({0, 3.5f, 2.6f, 0}), 1);
  params_.frequency_penalty = 0;
  params_.repetition_penalty = 2;  // prompt and generated; a negative logit gets more negative
  EXPECT_EQ(*sample({3, 3, 1.6f, 0}), 2);
  EXPECT_EQ(*sample({-1, -1, -1.5f, -9}), 2);
}

TEST_F(SamplerTest, ForbiddenTokensNeverCome) {
  const std::vector<TokenId> eos = {1}, stops = {2};
  context_.forbidden = stops;
  context_.also_forbidden = eos;
  const auto counts = histogram({0, 50, 50, 0}, 300);
  EXPECT_EQ(counts[1] + counts[2], 0);
}

TEST_F(SamplerTest, BrokenRowsAreErrors) {
  EXPECT_EQ(sample({1, kNan}).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(sample({1, kInf}).status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(sample({-kInf, -kInf}).status().code(), absl::StatusCode::kInternal);
  params_.temperature = 0;
  EXPECT_EQ(sample({1, kNan}).status().code(), absl::StatusCode::kInternal);
}

TEST_F(SamplerTest, TinyTemperatureIsGreedy) {
  params_.temperature = 1e-9;
  EXPECT_EQ(histogram({1, 1.001f, 0.5f}, 100)[1], 100);
}

}  // namespace
}  // namespace mole::runtime
