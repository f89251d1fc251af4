#include "runtime/step_time_model.h"

#include <cmath>
#include <numeric>

#include <gtest/gtest.h>

#include "tests/sim/sim_random.h"

namespace mole::runtime {
namespace {

using model::AttentionForm;

constexpr double kShare = 6.0 / 64;

// What steps of some machine cost: 5 ms, 20 ms for all experts, 100 us a decode, 2 us per 1000
// entries it reads, 300 us a prompt token, 1 us per entry of context to expand, 30 ns a pair.
constexpr StepFactors kTruth = {5e-3, 20e-3, 1e-4, 2e-9, 3e-4, 1e-6, 3e-8};

double true_seconds(const StepWork& work) {
  const StepFactors factors = work.factors(kShare);
  return std::inner_product(factors.begin(), factors.end(), kTruth.begin(), 0.0);
}

StepWork draw_step(sim::SimRandom* random, bool prompts) {
  StepWork work;
  const int32_t decodes = random->between(prompts ? 0 : 1, 32);
  for (int32_t i = 0; i < decodes; ++i) {
    work.add(AttentionForm::kAbsorbed, random->between(1, 8000), 1);
  }
  if (!prompts || random->one_in(3)) return work;
  for (int32_t i = random->between(1, 3); i > 0; --i) {
    work.add(AttentionForm::kExpanded, random->between(0, 4000), random->between(1, 500));
  }
  return work;
}

// The mean error over fresh steps.
double error_of(const StepTimeModel& model, bool prompts) {
  sim::SimRandom random(77);
  double sum = 0;
  for (int i = 0; i < 200; ++i) {
    StepWork work = draw_step(&random, prompts);
    if (work.empty()) work.add(AttentionForm::kAbsorbed, 1, 1);
    sum += std::abs(model.cost().predict(work) / true_seconds(work) - 1);
  }
  return sum / 200;
}

TEST(StepTimeModelTest, KnowsNothingAtFirst) {
  StepTimeModel model(kShare);
  EXPECT_FALSE(model.cost().known);
  StepWork work;
  model.observe(work, 1.0);  // no work: ignored
  work.add(AttentionForm::kAbsorbed, 10, 1);
  model.observe(work, 0.0);  // a clock that stood still: ignored
  for (int64_t i = 0; i < StepTimeModel::kStepsToKnow; ++i) {
    EXPECT_FALSE(model.cost().known);
    model.observe(work, 2e-3);
  }
  EXPECT_TRUE(model.cost().known);
  EXPECT_NEAR(model.cost().predict(work), 2e-3, 2e-5);
}

TEST(StepTimeModelTest, LearnsWhatStepsCost) {
  StepTimeModel model(kShare);
  sim::SimRandom random(1);
  for (int i = 0; i < 400; ++i) {
    const StepWork work = draw_step(&random, true);
    if (!work.empty()) model.observe(work, true_seconds(work));
  }
  EXPECT_LT(error_of(model, true), 0.02);
  EXPECT_LT(error_of(model, false), 0.02);
  EXPECT_LT(model.mean_error(), 0.05);
  for (const double seconds : model.cost().seconds) EXPECT_GE(seconds, 0);
}

TEST(StepTimeModelTest, AStepThatWasHeldUpCountsLittle) {
  StepTimeModel model(kShare);
  sim::SimRandom random(2);
  for (int i = 0; i < 600; ++i) {
    const StepWork work = draw_step(&random, true);
    if (work.empty()) continue;
    const double noise = 1 + 0.02 * (random.between(-100, 100) / 100.0);
    model.observe(work, true_seconds(work) * (i % 20 == 19 ? 10 : noise));
  }
  // Without the weights a twentieth of ten times the time would shift everything by half.
  EXPECT_LT(error_of(model, true), 0.15);
}

TEST(StepTimeModelTest, FollowsAMachineThatSlowsDown) {
  StepTimeModel model(kShare);
  sim::SimRandom random(3);
  for (int i = 0; i < 2000; ++i) {
    const StepWork work = draw_step(&random, true);
    if (!work.empty()) model.observe(work, true_seconds(work) * (i < 400 ? 0.5 : 1));
  }
  EXPECT_LT(error_of(model, true), 0.05);
}

TEST(StepTimeModelTest, ALongStretchOfDecodingDoesNotForgetPrompts) {
  StepTimeModel model(kShare);
  sim::SimRandom random(4);
  for (int i = 0; i < 400; ++i) {
    const StepWork work = draw_step(&random, true);
    if (!work.empty()) model.observe(work, true_seconds(work));
  }
  const double before = error_of(model, true);
  for (int i = 0; i < 100'000; ++i) {
    const StepWork work = draw_step(&random, false);
    model.observe(work, true_seconds(work));
  }
  EXPECT_LT(error_of(model, true), before + 0.05);
  const StepWork work = draw_step(&random, true);
  model.observe(work, true_seconds(work));  // and takes up again
  EXPECT_LT(error_of(model, true), before + 0.1);
}

TEST(StepTimeModelTest, CuttingAChunkOnlyExpandsItsContextTwice) {
  StepWork whole, cut, grown;
  whole.add(AttentionForm::kExpanded, 100, 60);
  cut.add(AttentionForm::kExpanded, 100, 20);
  cut.add(AttentionForm::kExpanded, 120, 40);
  grown.add(AttentionForm::kExpanded, 100, 20);
  grown.grow_expanded(120, 40);
  EXPECT_EQ(whole.factors(kShare), grown.factors(kShare));
  EXPECT_EQ(whole.expanded_pairs, cut.expanded_pairs);
  EXPECT_EQ(cut.expanded_context, whole.expanded_context + 120);
}

}  // namespace
}  // namespace mole::runtime
