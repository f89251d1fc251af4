// The step path of scheduler, cache, builder and sampler allocates nothing once warm: counted by an
// operator new of this program. (A program of its own, as the operator is everybody's.)
#include <cstdlib>
#include <deque>
#include <new>

#include <gtest/gtest.h>

#include "runtime/batch_builder.h"
#include "runtime/plan_recorder.h"
#include "runtime/sample_context.h"
#include "runtime/sampler.h"
#include "runtime/scheduler.h"
#include "runtime/step_time_model.h"
#include "tests/runtime/test_requests.h"

namespace {
int64_t allocations = 0;
}  // namespace

void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  std::abort();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace mole::runtime {
namespace {

class WarmEngine {
 public:
  WarmEngine()
      : scheduler_({.num_blocks = 24,
                    .max_num_seqs = 8,
                    .max_num_batched_tokens = 128,
                    .max_scored_rows = 8,
                    .queue_wait_max_us = 1'000'000,
                    .target_itl_us = 4000,
                    .prefill_chunk_min = 8,
                    .prefill_wave_tokens = 100,
                    .num_layers = 5,
                    .max_draft_rows = 32}),
        builder_({.max_tokens = 128,
                  .max_sequences = 8,
                  .max_logit_rows = 48,
                  .max_blocks_per_sequence = 8}),
        sampler_(kTestVocab),
        logits_(kTestVocab) {
    for (size_t i = 0; i < logits_.size(); ++i) logits_[i] = static_cast<float>(i % 13);
  }

  void add(const TestRequest& wanted) {
    requests_.push_back(make_test_request(wanted));
    SamplingParams& sampling = requests_.back()->request.sampling;
    sampling.top_p = 0.9;
    sampling.top_k = static_cast<int32_t>(requests_.size() % 2) * 5;
    scheduler_.add(requests_.back().get());
  }

  // The number of allocations of one step.
  int64_t step() {
    const int64_t before = allocations;
    const StepPlan& plan = scheduler_.plan(0, step_times_.cost());
    preempted_ += plan.num_preempted;
    builder_.build(plan);
    waves_ += plan.wave.num_chunks;
    for (const PlannedChunk& chunk : plan.chunks) {
      if (!chunk.ends) continue;
      scheduler_.computed(chunk);
      if (chunk.samples) sample(chunk);
    }
    step_times_.observe(plan.work, 1e-3 + 1e-5 * plan.num_tokens);
    return allocations - before;
  }

  bool idle() const { return scheduler_.idle(); }
  int64_t preempted() const { return preempted_; }
  int64_t waves() const { return waves_; }
  int64_t accepted() const { return accepted_; }

 private:
  // As EngineCore does it: on behind every draft that is right.
  void sample(const PlannedChunk& chunk) {
    Sequence* sequence = chunk.sequence;
    const int32_t max_tokens = sequence->request->request.sampling.max_tokens;
    int32_t right = 0;
    for (int32_t i = 0;; ++i) {
      const SampleContext context = sample_context(*sequence, {});
      scheduler_.append(sequence, *sampler_.sample(logits_, context));
      if (sequence->num_generated() == max_tokens) {
        return scheduler_.finish(sequence, FinishReason::kLength);
      }
      if (i == chunk.num_drafts || sequence->tokens.back() != sequence->drafts[i]) break;
      scheduler_.accept(sequence);
      ++right;
    }
    accepted_ += right;
    if (chunk.num_drafts > 0) {
      sequence->draft_record.note(chunk.num_drafts, right, sequence->num_generated());
    }
    sequence->drafts.clear();
    sequence->ngrams.propose(sequence->tokens, kTestDrafts, &sequence->drafts);
  }

  Scheduler scheduler_;
  BatchBuilder builder_;
  Sampler sampler_;
  PlanRecorder recorder_{4, 16};
  std::vector<float> logits_;
  std::deque<std::unique_ptr<RequestState>> requests_;
  StepTimeModel step_times_{0.1};
  int64_t preempted_ = 0, accepted_ = 0, waves_ = 0;
};

TEST(AllocationTest, AWarmStepAllocatesNothing) {
  WarmEngine engine;
  for (uint64_t id = 1; id <= 24; ++id) {
    engine.add(
        {.id = id,
         .prompt = counting(static_cast<int32_t>(30 + 10 * (id % 5)), static_cast<TokenId>(id)),
         .max_tokens = 200,
         .n = id % 3 == 0 ? 2 : 1});
  }
  int64_t steps = 0, total = 0;
  while (!engine.idle()) {
    total += engine.step();
    ++steps;
  }
  EXPECT_GT(steps, 300);
  EXPECT_GT(engine.preempted(), 0);  // the hard paths are among them
  EXPECT_GT(engine.accepted(), 100);
  EXPECT_EQ(total, 0);
}

}  // namespace
}  // namespace mole::runtime
