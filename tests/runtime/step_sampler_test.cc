// Rows chosen by many threads are what each gives alone.
#include "runtime/step_sampler.h"

#include <limits>
#include <random>

#include <gtest/gtest.h>

namespace mole::runtime {
namespace {

constexpr int32_t kVocab = 3000;
constexpr int32_t kRows = 40;

class StepSamplerTest : public ::testing::Test {
 protected:
  // Rows of drawn logits and parameters, some broken.
  void draw(unsigned seed) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal(0, 2);
    rows_.clear();
    logits_.assign(kRows, std::vector<float>(kVocab));
    params_.assign(kRows, {});
    for (size_t i = 0; i < kRows; ++i) {
      for (float& logit : logits_[i]) logit = normal(random);
      if (random() % 8 == 0) logits_[i][7] = std::numeric_limits<float>::quiet_NaN();
      params_[i].temperature = random() % 3 == 0 ? 0.0 : 0.8;
      params_[i].top_p = random() % 2 == 0 ? 0.9 : 1.0;
      StepSampler::Row row{.logits = logits_[i],
                           .logprobs = static_cast<int32_t>(random() % 4) - 1};
      row.context.params = &params_[i];
      row.context.seed = random();
      row.context.position = i;
      rows_.push_back(row);
    }
  }

  std::vector<std::vector<float>> logits_;
  std::vector<SamplingParams> params_;
  std::vector<StepSampler::Row> rows_;
};

TEST_F(StepSamplerTest, ThreadsChooseWhatOneChooses) {
  StepSampler alone(kVocab, kRows, nullptr);
  for (int32_t threads = 1; threads <= 4; ++threads) {
    kernels::ThreadTeam team(threads);
    StepSampler sampler(kVocab, kRows, &team);
    for (unsigned seed = 1; seed <= 10; ++seed) {
      draw(seed);
      sampler.begin();
      for (int32_t i = 0; i < kRows; ++i) {
        if (i % 5 != 3) sampler.add(i, rows_[static_cast<size_t>(i)]);
      }
      sampler.run();
      for (int32_t i = 0; i < kRows; ++i) {
        const Choice* choice = sampler.find(i);
        ASSERT_EQ(choice == nullptr, i % 5 == 3);
        if (choice == nullptr) continue;
        const Choice want = alone.choose(rows_[static_cast<size_t>(i)]);
        ASSERT_EQ(choice->token.status(), want.token.status()) << "seed " << seed << " row " << i;
        if (!want.token.ok()) continue;
        ASSERT_EQ(*choice->token, *want.token) << "seed " << seed << " row " << i;
        if (rows_[static_cast<size_t>(i)].logprobs < 0) continue;
        ASSERT_EQ(choice->logprobs->logprob, want.logprobs->logprob);
        ASSERT_EQ(choice->logprobs->top, want.logprobs->top);
      }
    }
  }
}

TEST_F(StepSamplerTest, ANewStepKnowsNothingOfTheLast) {
  StepSampler sampler(kVocab, kRows, nullptr);
  draw(1);
  sampler.begin();
  sampler.add(2, rows_[2]);
  sampler.run();
  EXPECT_NE(sampler.find(2), nullptr);
  sampler.begin();
  EXPECT_EQ(sampler.find(2), nullptr);
  sampler.run();  // nothing to do
}

}  // namespace
}  // namespace mole::runtime
