#include "runtime/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "runtime/injected_bug.h"

namespace mole::runtime {
namespace {

using model::kBlockTokens;

bool by_rank(const Sequence* a, const Sequence* b) { return a->rank < b->rank; }

void insert_by_rank(std::vector<Sequence*>* sequences, Sequence* sequence) {
  sequences->insert(std::upper_bound(sequences->begin(), sequences->end(), sequence, by_rank),
                    sequence);
}

void erase_from(std::vector<Sequence*>* sequences, const Sequence* sequence) {
  const auto at = std::find(sequences->begin(), sequences->end(), sequence);
  MOLE_CHECK(at != sequences->end());
  sequences->erase(at);
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options)
    : options_(options),
      pool_(options.num_blocks),
      cache_(&pool_),
      wave_(options.num_layers, options.max_num_seqs) {
  MOLE_CHECK_GE(options.max_num_seqs, 1);
  MOLE_CHECK_GE(options.max_num_batched_tokens, options.max_num_seqs);
  MOLE_CHECK_GE(options.max_scored_rows, 1);
  MOLE_CHECK_GE(options.prefill_chunk_min, 1);
  running_.reserve(static_cast<size_t>(options.max_num_seqs));
  prefills_.reserve(static_cast<size_t>(options.max_num_seqs));
  plan_.chunks.reserve(static_cast<size_t>(options.max_num_seqs));
  plan_.wave.places.reserve(static_cast<size_t>(options.max_num_seqs));
}

void Scheduler::add(RequestState* request) {
  const uint64_t arrival = next_arrival_++;
  requests_.push_back(request);
  ++num_queued_;
  for (Sequence& sequence : request->sequences) {
    sequence.rank = {request->request.priority, arrival, sequence.index};
  }
  // Room for every live sequence now, so that pre-emption never allocates.
  num_live_ += request->sequences.size();
  if (waiting_.capacity() < num_live_) waiting_.reserve(2 * num_live_);
  wait(&request->sequences.front());
}

void Scheduler::expire(TimeUs now_us) {
  for (size_t i = requests_.size(); i-- > 0;) {
    RequestState* request = requests_[i];
    const bool late = request->request.deadline_us > 0 && now_us >= request->request.deadline_us;
    const bool stuck =
        request->started_us < 0 && now_us - request->submitted_us > options_.queue_wait_max_us;
    if (!late && !stuck) continue;
    plan_.expired.push_back({request, !late});
    // The last finish takes the request out of requests_: what lies there then was already looked
    // at.
    for (Sequence& sequence : request->sequences) {
      if (sequence.state == SequenceState::kFinished) continue;
      finish(&sequence, late ? FinishReason::kDeadline : FinishReason::kError);
    }
  }
}

void Scheduler::computed(const PlannedChunk& chunk) {
  Sequence* sequence = chunk.sequence;
  MOLE_CHECK_EQ(sequence->num_computed, chunk.first);
  sequence->num_computed += chunk.num_own();
  sequence->num_scored =
      std::max(sequence->num_scored, std::min(sequence->num_computed, sequence->scored_end()));
  if (sequence->request->share_prompt) publish_full_blocks(sequence);
  if (sequence->num_computed >= sequence->num_prompt) release_held(sequence->request);
}

void Scheduler::append(Sequence* sequence, TokenId token) {
  sequence->tokens.push_back(token);
  sequence->counts.add_generated(token);
  sequence->ngrams.extend(sequence->tokens);
  if (injected(InjectedBug::kIndexesRejectedDraft) && sequence->request->share_prompt) {
    const int32_t computed = std::exchange(sequence->num_computed, sequence->num_tokens());
    publish_full_blocks(sequence);
    sequence->num_computed = computed;
  }
}

void Scheduler::accept(Sequence* sequence) {
  MOLE_CHECK_LT(sequence->num_computed, sequence->num_tokens());
  ++sequence->num_computed;
  if (sequence->request->share_prompt) publish_full_blocks(sequence);
}

void Scheduler::finish(Sequence* sequence, FinishReason reason) {
  MOLE_CHECK(sequence->state != SequenceState::kFinished);
  RequestState* request = sequence->request;
  if (sequence->state == SequenceState::kRunning) erase_from(&running_, sequence);
  if (sequence->state == SequenceState::kWaiting) erase_from(&waiting_, sequence);
  if (sequence->in_wave) wave_.leave(sequence);
  release_blocks(sequence);
  const bool led = sequence->state != SequenceState::kHeld;
  sequence->state = SequenceState::kFinished;
  sequence->finish_reason = reason;
  --num_live_;
  if (--request->num_live == 0) {
    if (request->started_us < 0) --num_queued_;
    const auto at = std::find(requests_.begin(), requests_.end(), request);
    *at = requests_.back();
    requests_.pop_back();
    return;
  }
  if (!led || request->prompt_computed) return;
  // Whoever computed the prompt is gone: the next sequence takes over.
  for (Sequence& next : request->sequences) {
    if (next.state == SequenceState::kHeld) return wait(&next);
  }
}

void Scheduler::preempt(Sequence* sequence) {
  erase_from(&running_, sequence);
  if (sequence->in_wave) wave_.leave(sequence);
  release_blocks(sequence);
  if (injected(InjectedBug::kStarvation)) sequence->rank.arrival = next_arrival_++;
  wait(sequence);
  ++plan_.num_preempted;
}

// Last block first: the cache forgets in this order, and a block is only found after those before
// it.
void Scheduler::release_blocks(Sequence* sequence) {
  for (size_t i = sequence->blocks.size(); i-- > 0;) cache_.release(sequence->blocks[i]);
  sequence->blocks.clear();
  sequence->num_published = 0;
  sequence->num_computed = 0;
}

void Scheduler::publish_full_blocks(Sequence* sequence) {
  const int32_t full = sequence->num_computed / kBlockTokens;
  const auto keys = sequence->keys.first(full, sequence->tokens, sequence->num_prompt, key_maker_);
  for (int32_t& block = sequence->num_published; block < full; ++block) {
    cache_.publish(sequence->blocks[block], keys[block], sequence->request->request.priority);
  }
}

void Scheduler::run(Sequence* sequence) {
  sequence->state = SequenceState::kRunning;
  sequence->passed_over = 0;
  insert_by_rank(&running_, sequence);
}

void Scheduler::wait(Sequence* sequence) {
  sequence->state = SequenceState::kWaiting;
  sequence->swap_wait = {};
  insert_by_rank(&waiting_, sequence);
}

void Scheduler::release_held(RequestState* request) {
  if (request->prompt_computed) return;
  request->prompt_computed = true;
  for (Sequence& sequence : request->sequences) {
    if (sequence.state == SequenceState::kHeld) wait(&sequence);
  }
}

}  // namespace mole::runtime
