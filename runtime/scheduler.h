// Who runs in the next step: a pure function of its state, what happened to it, a time value and
// what steps cost. No clock, no lock, no tensor; once warm, no allocation.
//
// A step is planned in this order:
//   1. requests whose time is up end;
//   2. every running sequence that generates gets its one token. If it needs a block and none is
//      free, the running sequence of the lowest rank loses its blocks and waits again at its old
//      place;
//   3. drafts are added behind these tokens as long as they promise more tokens a second: a draft
//      that is right with chance p saves p of a row in a later step, and costs a row now;
//   4. waiting sequences start, by rank, with blocks for all tokens they have. One that doesn't fit
//      may be passed over kPassOversMax times, then nobody starts before it;
//   5. prompts (and the replay of pre-empted sequences) share the rest of the step. The oldest gets
//      at least 1 / kOldestPrefillShare of it, and prefill_chunk_min tokens; the others, and what
//      the oldest lacks, go by priority, then shortest rest first. So a short prompt does not wait
//      behind a long one, and a long one takes at most kOldestPrefillShare times as long as alone
//      once it is the oldest. With a target, prompts that the step has no time for to their end go
//      in a wave (prefill_wave.h): many tokens at once, which pass as many layers in each step as
//      it has time for, at least one. A wave is not joined once it has begun; the next one begins
//      with the oldest prompt.
// The rest of the step is what max_num_batched_tokens leaves and, with a target for the time
// between tokens, what keeps the predicted duration of the step within it (kTargetsPerIdleStep
// times, if no sequence waits for its next token). The least chunk of the oldest prompt is not
// bound by it: the target gives way where it can't be met. The n sequences of a request compute
// their prompt once: the others are held until the first is through and then find its blocks in the
// prefix cache.
//
// Progress: the running sequence of the highest rank is never pre-empted for another, and the cache
// holds at least one sequence of the greatest length, so every sequence ends. Thread: engine.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/clock.h"
#include "runtime/block_pool.h"
#include "runtime/page_swapper.h"
#include "runtime/prefill_wave.h"
#include "runtime/prefix_cache.h"
#include "runtime/sequence.h"
#include "runtime/step_plan.h"

namespace mole::runtime {

struct SchedulerOptions {
  int32_t num_blocks = 0;
  int32_t max_num_seqs = 0;
  int32_t max_num_batched_tokens = 0;  // at least max_num_seqs
  int32_t max_scored_rows = 0;         // logit rows for scored prompt tokens in one step, >= 1
  TimeUs queue_wait_max_us = 0;
  int64_t target_itl_us = 0;        // 0 = none
  int32_t prefill_chunk_min = 1;    // tokens that the oldest prompt gets in any step, >= 1
  int32_t prefill_wave_tokens = 0;  // of a wave; 0 = no waves
  int32_t num_layers = 1;           // of the model; a wave needs two
  int32_t max_draft_rows = 0;       // drafts in one step; 0 = no speculation
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  /// Takes a request into the queue. It must outlive its last sequence's end.
  void add(RequestState* request);

  /// Gives the prefix cache a swap file behind it. Before the first request; `device` was started
  /// and must outlive the scheduler.
  void use_swap(SwapDevice* device, uint64_t page_bytes);
  /// Moves pages between two plans, while nothing is to be planned.
  void tend_swap();
  /// Null without a swap file.
  const PageSwapper* swapper() const { return swapper_.get(); }

  /// The plan of the next step; valid until the next call. Ends expired requests (listed in it).
  const StepPlan& plan(TimeUs now_us, const StepCost& cost = {});

  /// The entries of the chunk's own tokens are in the cache now, not of its drafts.
  void computed(const PlannedChunk& chunk);
  /// A token was sampled after the sequence's last one.
  void append(Sequence* sequence, TokenId token);
  /// The token just appended equals the next draft: its entry is in the cache already.
  void accept(Sequence* sequence);
  /// Ends a sequence, whatever its state; its blocks are free again.
  void finish(Sequence* sequence, FinishReason reason);

  int32_t num_running() const { return static_cast<int32_t>(running_.size()); }
  /// Requests of which no sequence ran yet.
  int32_t num_queued_requests() const { return num_queued_; }
  int32_t num_requests() const { return static_cast<int32_t>(requests_.size()); }
  bool idle() const { return requests_.empty(); }

  struct PrefixStats {
    int64_t queried_tokens = 0;  // prompt tokens looked up
    int64_t hit_tokens = 0;      // and found
  };
  const PrefixStats& prefix_stats() const { return prefix_stats_; }

  // For checkers and metrics.
  const BlockPool& pool() const { return pool_; }
  const PrefixCache& prefix_cache() const { return cache_; }
  const std::vector<Sequence*>& running() const { return running_; }
  const std::vector<Sequence*>& waiting() const { return waiting_; }
  const PrefillWave& wave() const { return wave_; }

 private:
  struct Budget {
    int32_t tokens = 0;
    int32_t scored_rows = 0;
    int32_t draft_rows = 0;
    double seconds = 0;  // predicted for the whole step
  };

  void expire(TimeUs now_us);
  void plan_decodes();
  bool make_room_for_next(Sequence* sequence);
  void plan_drafts();
  void draft_behind(PlannedChunk* chunk, int32_t* tokens, double* expected);
  bool make_room_for_draft(Sequence* sequence, int32_t position);
  void admit(TimeUs now_us);
  bool try_start(Sequence* sequence, TimeUs now_us);
  void plan_prefills();
  void plan_chunks();
  void limit_prefills();
  /// Rows from which on a chunk costs more than what it must do first, expanding the `first`
  /// entries before it again. Shorter ones would mostly repeat that work step after step.
  int32_t worthwhile_rows(model::AttentionForm form, int32_t first) const;
  static bool sooner_done(const Sequence* a, const Sequence* b);
  int32_t share_of_oldest(const Sequence& sequence) const;
  int32_t rows_in_time(model::AttentionForm form, int32_t first, int32_t most, bool grows) const;
  void grow_chunk(PlannedChunk* chunk);
  int32_t wave_rows_max() const;
  bool uses_waves() const;
  void reserve_wave();
  void plan_with_wave();
  void plan_oldest();
  bool fits(const Sequence& sequence) const;
  void plan_whole_prompts();
  void lead_wave(Sequence* sequence);
  void fill_wave();
  int32_t wave_room() const;
  int32_t rows_for_wave(const Sequence& sequence, int32_t first, bool grows) const;
  void take_for_wave(const Sequence& sequence, int32_t first, int32_t count);
  void run_wave();
  void plan_logits();
  bool take_back_page();
  void take_back_writes(int32_t free_wanted);
  bool waits_for_pages(Sequence* sequence, int32_t reusable_blocks, TimeUs now_us);
  int32_t chunk_limit(const Sequence& sequence, int32_t first, int32_t scored_rows) const;
  void plan_chunk(Sequence* sequence, int32_t count);
  void preempt(Sequence* sequence);
  void release_blocks(Sequence* sequence);
  void publish_full_blocks(Sequence* sequence);
  void run(Sequence* sequence);
  void wait(Sequence* sequence);
  void release_held(RequestState* request);

  const SchedulerOptions options_;
  BlockPool pool_;
  PrefixCache cache_;
  KeyMaker key_maker_;
  std::unique_ptr<PageSwapper> swapper_;
  PrefillWave wave_;
  std::vector<Sequence*> running_;       // by rank
  std::vector<Sequence*> waiting_;       // by rank
  std::vector<RequestState*> requests_;  // with a live sequence, in no order
  uint64_t next_arrival_ = 1;
  int32_t num_queued_ = 0;
  size_t num_live_ = 0;              // sequences of all requests
  std::vector<Sequence*> prefills_;  // of the step being planned: run, and not for one token
  StepCost cost_;                    // of the step being planned
  Budget left_;                      // of the step being planned
  StepPlan plan_;
  PrefixStats prefix_stats_;
};

}  // namespace mole::runtime
