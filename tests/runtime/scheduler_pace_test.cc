// What a step takes in: shares of prompts, the target for the time between tokens, drafts.
#include <deque>

#include <gtest/gtest.h>

#include "runtime/limits.h"
#include "runtime/scheduler.h"
#include "tests/runtime/test_requests.h"

namespace mole::runtime {
namespace {

class SchedulerPaceTest : public ::testing::Test {
 protected:
  void make(int64_t target_itl_us, int32_t draft_rows = 0, int32_t chunk_min = 4) {
    scheduler_ = std::make_unique<Scheduler>(SchedulerOptions{.num_blocks = 200,
                                                              .max_num_seqs = 8,
                                                              .max_num_batched_tokens = 1000,
                                                              .max_scored_rows = 32,
                                                              .queue_wait_max_us = 1'000'000,
                                                              .target_itl_us = target_itl_us,
                                                              .prefill_chunk_min = chunk_min,
                                                              .max_draft_rows = draft_rows});
  }

  // 1 ms a step, 100 us a token of any kind.
  static StepCost cost() {
    return {.seconds = {1e-3, 0, 1e-4, 0, 1e-4, 0, 0}, .expert_share = 0, .known = true};
  }

  Sequence* add(int32_t prompt, int32_t max_tokens, int32_t priority = 0) {
    const uint64_t id = requests_.size() + 1;
    requests_.push_back(make_test_request({.id = id,
                                           .prompt = counting(prompt, static_cast<TokenId>(id)),
                                           .max_tokens = max_tokens,
                                           .priority = priority}));
    scheduler_->add(requests_.back().get());
    return &requests_.back()->sequences[0];
  }

  // Nothing that is drafted is right.
  const StepPlan& step(const StepCost& cost) {
    const StepPlan& plan = scheduler_->plan(0, cost);
    for (const PlannedChunk& chunk : plan.chunks) {
      scheduler_->computed(chunk);
      if (!chunk.samples) continue;
      Sequence* sequence = chunk.sequence;
      scheduler_->append(sequence, 9);
      if (chunk.num_drafts > 0) {
        sequence->draft_record.note(chunk.num_drafts, 0, sequence->num_generated());
      }
      if (sequence->num_generated() == sequence->request->request.sampling.max_tokens) {
        scheduler_->finish(sequence, FinishReason::kLength);
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

TEST_F(SchedulerPaceTest, TheOldestPromptGetsAQuarterAndTheShortestTheRest) {
  make(0);
  const Sequence* oldest = add(4000, 1);
  const Sequence* longer = add(2000, 1);
  const Sequence* shorter = add(600, 1);
  const Sequence* tiny = add(16, 1);
  const StepPlan& plan = step({});
  EXPECT_EQ(count_of(plan, oldest), 250);
  EXPECT_EQ(count_of(plan, tiny), 16);
  EXPECT_EQ(count_of(plan, shorter), 600);
  EXPECT_EQ(count_of(plan, longer), 1000 - 250 - 16 - 600);
  const StepPlan& next = step({});
  EXPECT_EQ(count_of(next, oldest), 250);
  EXPECT_EQ(count_of(next, longer), 750);
}

TEST_F(SchedulerPaceTest, PriorityComesBeforeLength) {
  make(0);
  const Sequence* oldest = add(4000, 1);
  step({});
  const Sequence* tiny = add(16, 1, 1);
  const Sequence* urgent = add(3000, 1, -1);
  const StepPlan& plan = step({});
  EXPECT_EQ(count_of(plan, oldest), 250);  // it ran before: never left without progress
  EXPECT_EQ(count_of(plan, urgent), 750);
  EXPECT_EQ(count_of(plan, tiny), 0);
}

TEST_F(SchedulerPaceTest, PromptsAreCutToTheTarget) {
  make(5000);
  add(3, 100);
  step(cost());
  add(2000, 1);
  const StepPlan& plan = step(cost());
  ASSERT_EQ(plan.num_decodes, 1);
  EXPECT_EQ(plan.num_tokens, 40);  // 1 ms + 40 x 0.1 ms
  EXPECT_LE(cost().predict(plan.work), 5e-3);
}

TEST_F(SchedulerPaceTest, WithoutDecodesAStepMayTakeSomeTargets) {
  make(5000);
  add(2000, 1);
  EXPECT_EQ(step(cost()).num_tokens, 190);
}

TEST_F(SchedulerPaceTest, BeforeCostsAreKnownChunksAreSmall) {
  make(5000);
  add(2000, 1);
  EXPECT_EQ(step({}).num_tokens, kUnknownCostTokensIdle);
  add(3, 100);
  step({});
  EXPECT_EQ(step({}).num_tokens, 1 + kUnknownCostTokens);
}

TEST_F(SchedulerPaceTest, ATargetThatCannotBeMetStillLetsPromptsGoOn) {
  make(100);
  add(3, 100);
  step(cost());
  const Sequence* prompt = add(2000, 1);
  EXPECT_EQ(count_of(step(cost()), prompt), 4);
  EXPECT_EQ(count_of(step(cost()), prompt), 4);
}

TEST_F(SchedulerPaceTest, AChunkIsWorthTheContextThatItExpandsAgain) {
  make(3000);
  add(3, 100);
  step(cost());
  Sequence* prompt = add(2000, 1);
  while (prompt->num_computed < 200) step(cost());
  StepCost with_context = cost();
  with_context.seconds[kExpandedContext] =
      2e-5;  // five entries cost as much as a row, all more than the target
  const int32_t context = prompt->num_computed;
  EXPECT_EQ(count_of(step(with_context), prompt), context / 5);
}

TEST_F(SchedulerPaceTest, ContextThatMustBeExpandedAgainCountsAgainstTheTarget) {
  make(5000);
  add(3, 100);
  step(cost());
  Sequence* prompt = add(2000, 1);
  StepCost with_context = cost();
  with_context.seconds[kExpandedContext] = 1e-6;
  const int32_t early = count_of(step(with_context), prompt);
  while (prompt->num_computed < 1500) step(with_context);
  const int32_t late = count_of(step(with_context), prompt);
  EXPECT_NEAR(early - late, 15, 1);  // 1500 us of context instead of 15 tokens
}

TEST_F(SchedulerPaceTest, DraftsFillTheStepWhileNothingIsKnown) {
  make(0, 100);
  Sequence* sequence = add(3, 10);
  step({});
  sequence->drafts = {1, 2, 3, 4};
  const StepPlan& plan = step({});
  ASSERT_EQ(plan.chunks.size(), 1u);
  EXPECT_EQ(plan.chunks[0].count, 5);
  EXPECT_EQ(plan.chunks[0].num_drafts, 4);
  EXPECT_EQ(plan.num_logit_rows, 5);
  EXPECT_EQ(plan.chunks[0].logits_first, 3);
  EXPECT_EQ(sequence->num_computed, 4);  // drafts are not the sequence's tokens
}

TEST_F(SchedulerPaceTest, NoDraftBeyondTheLastToken) {
  make(0, 100);
  Sequence* sequence = add(3, 3);
  step({});
  sequence->drafts = {1, 2, 3, 4};
  EXPECT_EQ(step({}).chunks[0].num_drafts, 1);
  sequence->drafts = {1, 2, 3, 4};
  EXPECT_EQ(step({}).chunks[0].num_drafts, 0);
}

TEST_F(SchedulerPaceTest, DraftRowsAreBounded) {
  make(0, 5);
  Sequence* first = add(3, 50);
  Sequence* second = add(3, 50);
  step({});
  first->drafts = second->drafts = {1, 2, 3, 4};
  EXPECT_EQ(step({}).num_drafts, 5);
}

TEST_F(SchedulerPaceTest, DraftsMustPayAndAreTriedAgainNowAndThen) {
  make(0, 100);
  Sequence* sequence = add(3, 500);
  step(cost());
  StepCost dear = cost();
  dear.seconds[kAbsorbedRows] = 2e-3;  // a row costs more than the rest of the step together
  sequence->drafts = {1, 2, 3, 4};
  EXPECT_EQ(step(dear).num_drafts, 0);
  StepCost cheap = cost();
  cheap.seconds[kAbsorbedRows] = 1e-6;
  sequence->drafts = {1, 2, 3, 4};
  EXPECT_EQ(step(cheap).num_drafts, 4);
  int32_t tries = 0;
  for (int i = 0; i < 200; ++i) {
    sequence->drafts = {1, 2, 3, 4};
    const int32_t drafted = step(dear).num_drafts;
    EXPECT_LE(drafted, kProbeDrafts);
    tries += drafted;
  }
  EXPECT_GE(tries, 4);
  EXPECT_LE(tries, 8);
}

TEST_F(SchedulerPaceTest, ManySequencesMakeDraftsDearer) {
  StepCost some = cost();  // 1 ms a step and 0.1 ms a row: a draft that is right half the time pays
  make(0, 100);            // beside one sequence, and not beside eight
  std::vector<Sequence*> sequences;
  for (int i = 0; i < 8; ++i) sequences.push_back(add(3, 50));
  step(some);
  for (Sequence* sequence : sequences) sequence->drafts = {1};
  EXPECT_EQ(step(some).num_drafts, 8);  // 0.5 x 1.8 ms > 8 x 0.1 ms
  some.seconds[kAbsorbedRows] = 3e-4;
  for (Sequence* sequence : sequences) sequence->drafts = {1};
  EXPECT_EQ(step(some).num_drafts, 0);
  for (size_t i = 1; i < 8; ++i) scheduler_->finish(sequences[i], FinishReason::kCancelled);
  sequences[0]->drafts = {1};
  EXPECT_EQ(step(some).num_drafts, 1);
}

TEST_F(SchedulerPaceTest, DraftsKeepToTheTargetAndLeaveThePromptItsLeast) {
  make(1250, 100);
  Sequence* sequence = add(3, 50);
  step(cost());
  sequence->drafts = {1, 2, 3, 4};
  EXPECT_EQ(step(cost()).num_drafts, 1);
  const Sequence* prompt = add(100, 1);
  sequence->drafts = {1, 2, 3, 4};
  EXPECT_EQ(count_of(step(cost()), prompt), 4);
}

}  // namespace
}  // namespace mole::runtime
