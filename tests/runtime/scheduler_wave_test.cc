// Prompts that pass the layers over several steps: who is in a wave, how far it comes in a step,
// and that it loses nobody.
#include <deque>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/scheduler.h"
#include "tests/runtime/test_requests.h"

namespace mole::runtime {
namespace {

using ::testing::ElementsAre;

constexpr int32_t kLayers = 10;

TEST(PrefillWaveTest, GoesOnWithThoseThatStay) {
  const auto first = make_test_request({.id = 1, .prompt = counting(90)});
  const auto second = make_test_request({.id = 2, .prompt = counting(90)});
  PrefillWave wave(kLayers, 4);
  EXPECT_TRUE(wave.empty());
  wave.join(&first->sequences[0], 20);
  wave.join(&second->sequences[0], 50);
  wave.grow(&first->sequences[0], 10);
  EXPECT_EQ(wave.num_rows(), 80);
  EXPECT_EQ(wave.work().rows, 80);
  std::vector<int32_t> places;
  wave.advance(4, &places);
  EXPECT_THAT(places, ElementsAre(0, 30));
  EXPECT_EQ(wave.next_layer(), 4);
  wave.leave(&first->sequences[0]);
  EXPECT_FALSE(first->sequences[0].in_wave);
  places.clear();
  wave.advance(6, &places);
  EXPECT_THAT(places, ElementsAre(30));  // where it was before
  EXPECT_TRUE(wave.empty());
  EXPECT_FALSE(second->sequences[0].in_wave);
  EXPECT_EQ(wave.next_layer(), 0);
  EXPECT_EQ(wave.num_begun(), 1);
  EXPECT_EQ(wave.layers_passed(), kLayers);
}

TEST(PrefillWaveTest, EndsWhenAllHaveLeft) {
  const auto request = make_test_request({.prompt = counting(90)});
  PrefillWave wave(kLayers, 4);
  wave.join(&request->sequences[0], 20);
  std::vector<int32_t> places;
  wave.advance(4, &places);
  wave.leave(&request->sequences[0]);
  EXPECT_TRUE(wave.empty());
  EXPECT_EQ(wave.next_layer(), 0);
}

class SchedulerWaveTest : public ::testing::Test {
 protected:
  void make(SchedulerOptions options) { scheduler_ = std::make_unique<Scheduler>(options); }

  static SchedulerOptions options(int64_t target_itl_us) {
    return {.num_blocks = 200,
            .max_num_seqs = 8,
            .max_num_batched_tokens = 1000,
            .max_scored_rows = 32,
            .queue_wait_max_us = 1'000'000,
            .target_itl_us = target_itl_us,
            .prefill_chunk_min = 4,
            .prefill_wave_tokens = 500,
            .num_layers = kLayers};
  }

  // 1 ms a step, 100 us a token of any kind.
  static StepCost cost() {
    return {.seconds = {1e-3, 0, 1e-4, 0, 1e-4, 0, 0}, .expert_share = 0, .known = true};
  }

  Sequence* add(int32_t prompt, int32_t max_tokens, int32_t prompt_logprobs = -1) {
    const uint64_t id = requests_.size() + 1;
    requests_.push_back(make_test_request({.id = id,
                                           .prompt = counting(prompt, static_cast<TokenId>(id)),
                                           .max_tokens = max_tokens,
                                           .prompt_logprobs = prompt_logprobs}));
    scheduler_->add(requests_.back().get());
    return &requests_.back()->sequences[0];
  }

  const StepPlan& step(const StepCost& cost) {
    const StepPlan& plan = scheduler_->plan(0, cost);
    for (const PlannedChunk& chunk : plan.chunks) {
      if (!chunk.ends) continue;
      scheduler_->computed(chunk);
      if (!chunk.samples) continue;
      scheduler_->append(chunk.sequence, 9);
      if (chunk.sequence->num_generated() == chunk.sequence->request->request.sampling.max_tokens) {
        scheduler_->finish(chunk.sequence, FinishReason::kLength);
      }
    }
    return plan;
  }

  static int32_t count_of(const StepPlan& plan, const Sequence* sequence) {
    for (const PlannedChunk& chunk : plan.chunks) {
      if (chunk.sequence == sequence) return chunk.count;
    }
    return 0;
  }

  std::unique_ptr<Scheduler> scheduler_;
  std::deque<std::unique_ptr<RequestState>> requests_;
};

TEST_F(SchedulerWaveTest, ALongPromptPassesTheLayersOverManySteps) {
  make(options(5050));
  add(3, 100);
  step(cost());
  const Sequence* prompt = add(2000, 1);
  // 5.05 ms - 1.1 ms for the decode; a layer of the wave may take a quarter: 98.75 tokens.
  const std::vector<int32_t> ends = {0, 4, 7, 10};  // four layers fit, so three steps are needed
  for (size_t i = 1; i < ends.size(); ++i) {
    const StepPlan& plan = step(cost());
    ASSERT_EQ(plan.num_decodes, 1);
    ASSERT_EQ(plan.wave.num_chunks, 1);
    EXPECT_EQ(count_of(plan, prompt), 98);
    EXPECT_EQ(plan.num_tokens, 99);
    EXPECT_EQ(plan.wave.begin_layer, ends[i - 1]);
    EXPECT_EQ(plan.wave.end_layer, ends[i]);
    EXPECT_THAT(plan.wave.places, ElementsAre(0));
    EXPECT_LE(cost().predict(plan.work), 5.05e-3);
    const bool last = ends[i] == kLayers;
    EXPECT_EQ(plan.chunks.back().ends, last);
    EXPECT_EQ(prompt->num_computed, last ? 98 : 0);
    EXPECT_EQ(prompt->in_wave, !last);
  }
  EXPECT_EQ(step(cost()).chunks.back().first, 98);
}

TEST_F(SchedulerWaveTest, LongContextLeavesAWaveFewerTokens) {
  make(options(5000));
  add(3, 100);
  step(cost());
  Sequence* prompt = add(3000, 1);
  StepCost dear = cost();
  dear.seconds[kExpandedContext] = 2e-6;
  while (prompt->num_computed < 2000 || prompt->in_wave) step(dear);
  // A layer expands 2000 entries for 0.4 ms of the 0.975 ms that it may take.
  const StepPlan& plan = step(dear);
  EXPECT_NEAR(count_of(plan, prompt), 56, 4);
  EXPECT_LE(dear.predict(plan.work), 5e-3);
}

TEST_F(SchedulerWaveTest, ShortPromptsPassBesideAWave) {
  make(options(5000));
  add(3, 100);
  step(cost());
  const Sequence* prompt = add(2000, 1);
  step(cost());
  ASSERT_TRUE(prompt->in_wave);
  const Sequence* tiny = add(6, 1);
  const StepPlan& plan = step(cost());
  EXPECT_EQ(count_of(plan, tiny), 6);
  EXPECT_EQ(tiny->state, SequenceState::kFinished);
  EXPECT_TRUE(plan.wave.num_chunks == 1 && plan.wave.end_layer > plan.wave.begin_layer);
}

TEST_F(SchedulerWaveTest, TheOldestLeadsAndTheShortestFollows) {
  make(options(50'000));
  add(3, 100);
  step(cost());
  const Sequence* oldest = add(4000, 1);
  const Sequence* longer = add(3000, 1);
  const Sequence* shorter = add(365, 1);
  const StepPlan& plan = step(cost());
  ASSERT_EQ(plan.wave.num_chunks, 3);
  const int32_t share = count_of(plan, oldest);
  EXPECT_EQ(share, 125);                    // a quarter of 500
  EXPECT_EQ(count_of(plan, shorter), 365);  // more than the step has time for otherwise
  EXPECT_EQ(count_of(plan, longer), 10);
  EXPECT_THAT(plan.wave.places, ElementsAre(0, 125, 490));
}

TEST_F(SchedulerWaveTest, WhatIsMadeWhileNobodyWaitsFitsTheTargetLater) {
  make(options(5050));
  const Sequence* prompt = add(2000, 1);
  const StepPlan& plan = step(cost());     // may take 20.2 ms
  EXPECT_EQ(count_of(plan, prompt), 101);  // of which a layer takes a quarter of 5.05 ms - 1 ms
  EXPECT_EQ(plan.wave.end_layer, kLayers);
}

TEST_F(SchedulerWaveTest, NobodyJoinsAWaveThatHasBegunAndTheNextBeginsWithTheOldest) {
  make(options(5000));
  add(3, 100);
  step(cost());
  const Sequence* first = add(90, 1);
  step(cost());
  ASSERT_TRUE(first->in_wave);
  const Sequence* second = add(2000, 1);
  while (first->state != SequenceState::kFinished) {
    EXPECT_EQ(count_of(step(cost()), second), 0);
  }
  EXPECT_GT(count_of(step(cost()), second), 90);
}

TEST_F(SchedulerWaveTest, WhoLeavesIsForgotten) {
  make(options(5000));
  add(3, 100);
  step(cost());
  Sequence* first = add(120, 1);
  Sequence* second = add(2000, 1);
  step(cost());
  ASSERT_TRUE(first->in_wave && second->in_wave);
  scheduler_->finish(first, FinishReason::kCancelled);
  const StepPlan& plan = step(cost());
  EXPECT_EQ(plan.wave.num_chunks, 1);
  EXPECT_EQ(plan.chunks.back().sequence, second);
  ASSERT_EQ(plan.wave.places.size(), 1u);
  EXPECT_GT(plan.wave.places[0], 0);
  scheduler_->finish(second, FinishReason::kCancelled);
  EXPECT_TRUE(scheduler_->wave().empty());
  EXPECT_EQ(step(cost()).wave.num_chunks, 0);
}

TEST_F(SchedulerWaveTest, OnlyWithATargetKnownCostsLayersAndTokens) {
  const auto waves = [&](const SchedulerOptions& with, const StepCost& known) {
    requests_.clear();
    make(with);
    add(900, 1);
    return step(known).wave.num_chunks;
  };
  EXPECT_EQ(waves(options(5000), cost()), 1);
  EXPECT_EQ(waves(options(0), cost()), 0);
  EXPECT_EQ(waves(options(5000), {}), 0);
  SchedulerOptions changed = options(5000);
  changed.num_layers = 1;
  EXPECT_EQ(waves(changed, cost()), 0);
  changed = options(5000);
  changed.prefill_wave_tokens = 0;
  EXPECT_EQ(waves(changed, cost()), 0);
  changed = options(5000);
  changed.max_num_batched_tokens = changed.max_num_seqs + changed.prefill_chunk_min - 1;
  EXPECT_EQ(waves(changed, cost()), 0);
}

TEST_F(SchedulerWaveTest, AWaveKeepsToItsBound) {
  SchedulerOptions bounded = options(60'000'000);
  bounded.prefill_wave_tokens = 90;
  bounded.max_num_batched_tokens = 100;
  make(bounded);
  const Sequence* prompt = add(2000, 1);
  EXPECT_EQ(count_of(step(cost()), prompt), 90);
  bounded.max_num_batched_tokens = 97;  // beside 8 sequences' own tokens
  requests_.clear();
  make(bounded);
  prompt = add(2000, 1);
  EXPECT_EQ(count_of(step(cost()), prompt), 89);
}

TEST_F(SchedulerWaveTest, ScoredRowsComeWithTheLastLayer) {
  make(options(4000));  // 32 tokens take 0.3 ms more
  add(3, 100);
  step(cost());
  const Sequence* prompt = add(400, 1, 0);  // 32 scored rows a step
  const StepPlan* plan = &step(cost());
  ASSERT_TRUE(prompt->in_wave);
  while (prompt->num_computed == 0) {
    if (prompt->in_wave) {
      EXPECT_EQ(plan->num_logit_rows, 1);
    }
    plan = &step(cost());
  }
  EXPECT_EQ(prompt->num_computed, 32);
  EXPECT_EQ(prompt->num_scored, 32);
}

}  // namespace
}  // namespace mole::runtime
