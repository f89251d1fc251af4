#include "runtime/scheduler.h"

#include <deque>

#include <gtest/gtest.h>

#include "runtime/limits.h"
#include "tests/runtime/test_requests.h"

namespace mole::runtime {
namespace {

using model::AttentionForm;

// A scheduler with its requests; a step samples token 9 wherever the plan says so.
class SchedulerTest : public ::testing::Test {
 protected:
  void make(const SchedulerOptions& options) { scheduler_ = std::make_unique<Scheduler>(options); }
  static SchedulerOptions options(int32_t blocks, int32_t seqs, int32_t tokens) {
    return {.num_blocks = blocks,
            .max_num_seqs = seqs,
            .max_num_batched_tokens = tokens,
            .max_scored_rows = 32,
            .queue_wait_max_us = 1'000'000};
  }

  RequestState* add(TestRequest wanted) {
    wanted.id = requests_.size() + 1;
    requests_.push_back(make_test_request(wanted));
    scheduler_->add(requests_.back().get());
    return requests_.back().get();
  }

  const StepPlan& step(TimeUs now = 0) {
    const StepPlan& plan = scheduler_->plan(now);
    for (const PlannedChunk& chunk : plan.chunks) {
      scheduler_->computed(chunk);
      Sequence* sequence = chunk.sequence;
      if (!chunk.samples) continue;
      scheduler_->append(sequence, 9);
      if (sequence->num_generated() == sequence->request->request.sampling.max_tokens) {
        scheduler_->finish(sequence, FinishReason::kLength);
      }
    }
    return plan;
  }

  std::unique_ptr<Scheduler> scheduler_;
  std::deque<std::unique_ptr<RequestState>> requests_;
};

TEST_F(SchedulerTest, PrefillsThenDecodesThenEnds) {
  make(options(8, 4, 64));
  const RequestState* request = add({.prompt = counting(3), .max_tokens = 3});
  const StepPlan& first = step();
  ASSERT_EQ(first.chunks.size(), 1u);
  EXPECT_EQ(first.chunks[0].count, 3);
  EXPECT_EQ(first.chunks[0].form, AttentionForm::kExpanded);
  EXPECT_TRUE(first.chunks[0].samples);
  const StepPlan& second = step();
  ASSERT_EQ(second.chunks.size(), 1u);
  EXPECT_EQ(second.chunks[0].first, 3);
  EXPECT_EQ(second.chunks[0].count, 1);
  EXPECT_EQ(second.chunks[0].form, AttentionForm::kAbsorbed);
  step();
  EXPECT_EQ(request->num_live, 0);
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(scheduler_->pool().num_used(), 0);
  EXPECT_TRUE(step().chunks.empty());
}

TEST_F(SchedulerTest, LongPromptsAreCutToTheBudget) {
  make(options(16, 4, 100));
  add({.prompt = counting(250), .max_tokens = 1});
  EXPECT_EQ(step().chunks[0].count, 100);
  EXPECT_EQ(step().chunks[0].count, 100);
  const StepPlan& last = step();
  EXPECT_EQ(last.chunks[0].count, 50);
  EXPECT_TRUE(last.chunks[0].samples);
}

TEST_F(SchedulerTest, DecodesComeFirstAndPromptsTakeTheRest) {
  make(options(16, 4, 100));
  add({.prompt = counting(5), .max_tokens = 50});
  step();
  add({.prompt = counting(300, 7), .max_tokens = 1});
  const StepPlan& plan = step();
  ASSERT_EQ(plan.chunks.size(), 2u);
  EXPECT_EQ(plan.chunks[0].count, 1);
  EXPECT_EQ(plan.chunks[1].count, 99);
  EXPECT_EQ(plan.num_tokens, 100);
}

TEST_F(SchedulerTest, AShortPromptDoesNotWaitForALongOne) {
  make(options(64, 4, 1000));
  const RequestState* first = add({.prompt = counting(3000), .max_tokens = 1});
  const RequestState* second = add({.prompt = counting(20, 3), .max_tokens = 1});
  const StepPlan& plan = step();
  EXPECT_EQ(second->num_live, 0);
  EXPECT_EQ(first->sequences[0].num_computed, 980);  // half, and what the other left
  EXPECT_EQ(plan.num_tokens, 1000);
}

TEST_F(SchedulerTest, PriorityThenArrivalDecideWhoStarts) {
  make(options(16, 1, 100));
  add({.prompt = counting(5), .max_tokens = 1, .priority = 1});
  const RequestState* urgent = add({.prompt = counting(5), .max_tokens = 1, .priority = 0});
  EXPECT_EQ(step().chunks[0].sequence->request, urgent);
}

TEST_F(SchedulerTest, PreemptsTheNewestAndReplaysInTwoForms) {
  make(options(4, 4, 300));
  RequestState* old_request = add({.prompt = counting(120), .max_tokens = 100});
  RequestState* new_request =
      add({.prompt = counting(60, 50), .max_tokens = 60, .enable_prefix_caching = false});
  // 2 + 1 blocks; the fourth goes to whichever fills its own first.
  int32_t preempted = 0;
  for (int32_t i = 0; i < 20 && preempted == 0; ++i) preempted = step().num_preempted;
  ASSERT_EQ(preempted, 1);
  Sequence& victim = new_request->sequences[0];
  EXPECT_EQ(victim.state, SequenceState::kWaiting);
  EXPECT_TRUE(victim.blocks.empty());
  const int32_t generated = victim.num_generated();
  ASSERT_GT(generated, 1);
  scheduler_->finish(&old_request->sequences[0], FinishReason::kCancelled);
  // Copied: the next step() reuses the plan.
  const PlannedChunk prompt = step().chunks[0];
  EXPECT_EQ(prompt.count, 60);
  EXPECT_EQ(prompt.form, AttentionForm::kExpanded);
  EXPECT_FALSE(prompt.samples);
  const PlannedChunk replay = step().chunks[0];
  EXPECT_EQ(replay.count, generated);
  EXPECT_EQ(replay.form, AttentionForm::kAbsorbed);
  EXPECT_TRUE(replay.samples);
}

TEST_F(SchedulerTest, SequencesOfARequestShareTheirPrompt) {
  make(options(16, 4, 1000));
  RequestState* request = add({.prompt = counting(130), .max_tokens = 5, .n = 3});
  EXPECT_EQ(step().num_tokens, 130);  // only the first computes it
  EXPECT_EQ(request->sequences[1].state, SequenceState::kWaiting);
  EXPECT_EQ(step().num_tokens, 1 + 2 + 2);  // the others only what lies behind the full blocks
  EXPECT_EQ(scheduler_->pool().num_used(), 2 + 3);
  EXPECT_EQ(request->cached_tokens, 0);
}

TEST_F(SchedulerTest, IfTheFirstSequenceEndsTheNextComputesThePrompt) {
  make(options(16, 4, 64));
  RequestState* request = add({.prompt = counting(130), .max_tokens = 5, .n = 3});
  step();
  scheduler_->finish(&request->sequences[0], FinishReason::kCancelled);
  EXPECT_EQ(request->sequences[1].state, SequenceState::kWaiting);
  EXPECT_EQ(request->sequences[2].state, SequenceState::kHeld);
  EXPECT_EQ(step().chunks[0].first, 64);  // what its brother left in the cache
}

TEST_F(SchedulerTest, AWholeCachedPromptStillComputesItsLastBlock) {
  make(options(16, 4, 1000));
  add({.prompt = counting(128), .max_tokens = 1});
  step();
  add({.prompt = counting(128), .max_tokens = 1});
  const StepPlan& plan = step();
  EXPECT_EQ(plan.chunks[0].first, 64);
  EXPECT_EQ(plan.chunks[0].count, 64);
  EXPECT_EQ(scheduler_->prefix_stats().hit_tokens, 64);
}

TEST_F(SchedulerTest, ScoredPromptsAreComputedAndTheirRowsBounded) {
  make(options(16, 4, 1000));
  add({.prompt = counting(128), .max_tokens = 1});
  step();
  RequestState* scored = add({.prompt = counting(128), .max_tokens = 0, .prompt_logprobs = 1});
  int32_t rows = 0;
  for (int32_t i = 0; i < 10 && scored->sequences[0].num_computed < 128; ++i) {
    const StepPlan& plan = step();
    ASSERT_EQ(plan.chunks.size(), 1u);
    EXPECT_LE(plan.num_logit_rows, 32);
    EXPECT_EQ(plan.chunks[0].num_scored(), plan.num_logit_rows);
    rows += plan.num_logit_rows;
  }
  EXPECT_EQ(rows, 127);
}

TEST_F(SchedulerTest, DeadlinesAndQueueWaitEndRequests) {
  make(options(16, 1, 100));
  add({.prompt = counting(5), .max_tokens = 90});
  RequestState* late = add({.prompt = counting(5), .max_tokens = 1, .deadline_us = 500});
  RequestState* stuck = add({.prompt = counting(5), .max_tokens = 1});
  EXPECT_TRUE(step(499).expired.empty());
  const StepPlan& at_deadline = step(500);
  ASSERT_EQ(at_deadline.expired.size(), 1u);
  EXPECT_EQ(at_deadline.expired[0].request, late);
  EXPECT_FALSE(at_deadline.expired[0].in_queue);
  EXPECT_EQ(late->sequences[0].finish_reason, FinishReason::kDeadline);
  EXPECT_TRUE(step(1'000'000).expired.empty());
  const StepPlan& at_limit = step(1'000'001);
  ASSERT_EQ(at_limit.expired.size(), 1u);
  EXPECT_EQ(at_limit.expired[0].request, stuck);
  EXPECT_TRUE(at_limit.expired[0].in_queue);
}

TEST_F(SchedulerTest, OneThatDoesNotFitIsPassedOverOnlySoOften) {
  make(options(4, 8, 1000));
  add({.prompt = counting(64), .max_tokens = 1000});
  step();
  const RequestState* big = add({.prompt = counting(230, 5), .max_tokens = 1});
  int32_t started = 0;
  for (int32_t i = 0; i < kPassOversMax + 20; ++i) {
    const RequestState* small = add({.prompt = counting(2, 9), .max_tokens = 1});
    step();
    started += small->num_live == 0 ? 1 : 0;
  }
  EXPECT_EQ(started, kPassOversMax);
  scheduler_->finish(&requests_.front()->sequences[0], FinishReason::kCancelled);
  step();
  EXPECT_EQ(big->num_live, 0);
}

TEST_F(SchedulerTest, PlanAsJsonHoldsNoTokens) {
  make(options(8, 4, 64));
  add({.prompt = {71, 72, 73}, .max_tokens = 3});
  EXPECT_EQ(
      scheduler_->plan(0).to_json(),
      R"({"tokens":3,"logit_rows":1,"preempted":0,"expired":0,"chunks":[{"request":1,)"
      R"("index":0,"first":0,"count":3,"form":"expanded","logits":1,"drafts":0,"samples":true}]})");
}

}  // namespace
}  // namespace mole::runtime
