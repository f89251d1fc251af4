// How a step is planned: the second half of Scheduler, see scheduler.h.
#include <algorithm>

#include "base/check.h"
#include "runtime/injected_bug.h"
#include "runtime/limits.h"
#include "runtime/scheduler.h"

namespace mole::runtime {
namespace {

using model::kBlockTokens;

int32_t blocks_for(int32_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

}  // namespace

const StepPlan& Scheduler::plan(TimeUs now_us, const StepCost& cost) {
  plan_.clear();
  prefills_.clear();
  cost_ = cost;
  left_ = {.tokens = options_.max_num_batched_tokens,
           .scored_rows = options_.max_scored_rows,
           .draft_rows = options_.max_draft_rows};
  if (swapper_ != nullptr) swapper_->poll();
  expire(now_us);
  plan_decodes();
  reserve_wave();
  plan_drafts();
  admit(now_us);
  plan_prefills();
  plan_logits();
  if (swapper_ != nullptr) swapper_->write_back();
  return plan_;
}

void Scheduler::plan_decodes() {
  for (size_t i = 0; i < running_.size(); ++i) {
    Sequence* sequence = running_[i];
    if (!sequence->decoding()) {
      prefills_.push_back(sequence);
      continue;
    }
    if (!make_room_for_next(sequence)) return;  // it was itself the last: nobody is left behind it
    plan_chunk(sequence, 1);
    ++plan_.num_decodes;
  }
}

// A block for the sequence's uncomputed token. False if that cost the sequence its own place.
bool Scheduler::make_room_for_next(Sequence* sequence) {
  const int32_t tokens = sequence->num_tokens();
  const int32_t needed = blocks_for(injected(InjectedBug::kBlockBoundary) ? tokens - 1 : tokens);
  if (needed <= static_cast<int32_t>(sequence->blocks.size())) return true;
  while (cache_.num_free() == 0) {
    if (take_back_page()) continue;
    Sequence* victim = running_.back();
    preempt(victim);
    if (victim == sequence) return false;
  }
  sequence->blocks.push_back(cache_.take());
  return true;
}

void Scheduler::admit(TimeUs now_us) {
  int32_t scanned = 0;
  for (size_t i = 0; i < waiting_.size() && scanned < kAdmissionScanMax; ++scanned) {
    if (num_running() >= options_.max_num_seqs || left_.tokens == 0) return;
    Sequence* sequence = waiting_[i];
    if (try_start(sequence, now_us)) {
      waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(i));
      for (size_t passed = 0; passed < i; ++passed) ++waiting_[passed]->passed_over;
      continue;
    }
    if (sequence->passed_over >= kPassOversMax) return;
    ++i;
  }
}

bool Scheduler::try_start(Sequence* sequence, TimeUs now_us) {
  RequestState* request = sequence->request;
  // The last token must be computed for its logits; scored positions must be computed for theirs.
  const bool scoring = sequence->num_scored < sequence->scored_end();
  const int32_t reusable = scoring ? sequence->num_scored : sequence->num_tokens() - 1;
  if (request->share_prompt) {
    const auto keys = sequence->keys.first(reusable / kBlockTokens, sequence->tokens,
                                           sequence->num_prompt, key_maker_);
    sequence->num_published = cache_.match(keys, request->request.priority, &sequence->blocks);
  }
  sequence->num_computed = sequence->num_published * kBlockTokens;
  const int32_t needed =
      blocks_for(sequence->num_tokens()) - static_cast<int32_t>(sequence->blocks.size());
  // One spare block for each that runs: else the next step would pre-empt what this one started.
  take_back_writes(needed + num_running());
  const auto has_room = [&] { return needed + num_running() <= cache_.num_free(); };
  // Pages that it asks for take blocks, also if it does not wait for them after all.
  if (!has_room() || waits_for_pages(sequence, reusable / kBlockTokens, now_us) || !has_room()) {
    release_blocks(sequence);
    return false;
  }
  for (int32_t i = 0; i < needed; ++i) sequence->blocks.push_back(cache_.take());
  if (request->started_us < 0) {
    request->started_us = now_us;
    --num_queued_;
    if (request->share_prompt && !scoring) {
      request->cached_tokens = std::min(sequence->num_computed, sequence->num_prompt);
      prefix_stats_.queried_tokens += sequence->num_prompt;
      prefix_stats_.hit_tokens += request->cached_tokens;
    }
  }
  run(sequence);
  prefills_.push_back(sequence);
  return true;
}

void Scheduler::plan_logits() {
  for (PlannedChunk& chunk : plan_.chunks) {
    plan_.num_tokens += chunk.count;
    if (!chunk.ends) continue;
    const Sequence& sequence = *chunk.sequence;
    const int32_t end = chunk.first + chunk.num_own();
    const int32_t scored = sequence.scored_in(chunk.first, end);
    chunk.samples =
        end == sequence.num_tokens() && sequence.request->request.sampling.max_tokens > 0;
    chunk.num_logits = scored + (chunk.samples ? 1 + chunk.num_drafts : 0);
    chunk.logits_first = scored > 0 ? std::max(chunk.first, sequence.num_scored) : end - 1;
    plan_.num_logit_rows += chunk.num_logits;
  }
}

// How many tokens from `first` one chunk can take: one form, and no more scored rows than are left.
int32_t Scheduler::chunk_limit(const Sequence& sequence, int32_t first, int32_t scored_rows) const {
  const int32_t end = sequence.form_end();
  const int32_t scored_limit = std::max(first, sequence.num_scored) + scored_rows;
  return (scored_limit < sequence.scored_end() ? std::min(end, scored_limit) : end) - first;
}

void Scheduler::plan_chunk(Sequence* sequence, int32_t count) {
  PlannedChunk chunk;
  chunk.sequence = sequence;
  chunk.first = sequence->num_computed;
  chunk.count = count;
  chunk.form = sequence->next_form();
  plan_.chunks.push_back(chunk);
  plan_.work.add(chunk.form, chunk.first, count);
  left_.tokens -= count;
  left_.scored_rows -= sequence->scored_in(chunk.first, chunk.first + count);
}

}  // namespace mole::runtime
