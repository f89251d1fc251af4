#include "tests/sim/sim_checkers.h"

#include <algorithm>

#include "runtime/limits.h"

namespace mole::sim {

using model::kBlockTokens;
using runtime::Scheduler;
using runtime::Sequence;

namespace {

struct BlockUse {
  int32_t users = 0;
  const Sequence* first = nullptr;
  size_t position = 0;  // in the first user's table
};

// Two users of a block must agree about all tokens up to its end, and about their forms.
std::string check_shared(const BlockUse& use, const Sequence& other, size_t position) {
  const Sequence& first = *use.first;
  if (use.position != position) return "a block at two places";
  const auto end = static_cast<int32_t>(position + 1) * kBlockTokens;
  if (first.num_tokens() < end || other.num_tokens() < end) return "a shared block is not full";
  if (first.num_computed < end && other.num_computed < end) return "a shared block is not computed";
  if (!std::equal(first.tokens.begin(), first.tokens.begin() + end, other.tokens.begin())) {
    return "a shared block holds other tokens";
  }
  if (std::min(first.num_prompt, end) != std::min(other.num_prompt, end)) {
    return "a shared block was computed in another form";
  }
  return "";
}

}  // namespace

std::string check_blocks(const Scheduler& scheduler) {
  std::vector<BlockUse> uses(static_cast<size_t>(scheduler.pool().num_blocks()));
  for (const Sequence* sequence : scheduler.waiting()) {
    if (!sequence->blocks.empty()) return "a waiting sequence holds blocks";
  }
  for (const Sequence* sequence : scheduler.running()) {
    for (size_t i = 0; i < sequence->blocks.size(); ++i) {
      BlockUse& use = uses[static_cast<size_t>(sequence->blocks[i].value)];
      if (use.users++ == 0) {
        use.first = sequence;
        use.position = i;
      } else if (std::string wrong = check_shared(use, *sequence, i); !wrong.empty()) {
        return wrong;
      }
    }
  }
  if (scheduler.swapper() != nullptr) {
    for (const BlockId block : scheduler.swapper()->loading_blocks()) {
      if (uses[static_cast<size_t>(block.value)].users++ > 0) return "a block is used and loaded";
    }
  }
  int32_t used = 0;
  for (size_t block = 0; block < uses.size(); ++block) {
    const int32_t counted = scheduler.pool().refs(BlockId{static_cast<int32_t>(block)});
    if (counted != uses[block].users) {
      return "block " + std::to_string(block) + " has " + std::to_string(uses[block].users) +
             " users, its count is " + std::to_string(counted);
    }
    used += counted > 0 ? 1 : 0;
  }
  return used == scheduler.pool().num_used() ? "" : "the number of used blocks is wrong";
}

std::string check_swap(const Scheduler& scheduler) {
  const runtime::PageSwapper* swapper = scheduler.swapper();
  if (swapper == nullptr) return "";
  for (const BlockId block : swapper->loading_blocks()) {
    if (scheduler.prefix_cache().key_of(block) != nullptr) return "a block is found while it loads";
    if (scheduler.pool().held(block)) return "a block is loaded and written";
  }
  if (scheduler.pool().num_held() != swapper->num_writing()) {
    return "blocks are held for no write";
  }
  if (swapper->num_writing() > runtime::kSwapWritesMax ||
      swapper->num_loading() > runtime::kSwapLoadsMax) {
    return "too many pages are on their way";
  }
  if (swapper->index().num_ready() > swapper->index().num_slots()) return "more pages than slots";
  return "";
}

std::string check_bounds(const Scheduler& scheduler, const runtime::StepPlan& plan,
                         const runtime::SchedulerOptions& options) {
  if (plan.num_tokens > options.max_num_batched_tokens) return "too many tokens in a step";
  if (static_cast<int32_t>(plan.chunks.size()) > options.max_num_seqs) return "too many chunks";
  if (scheduler.num_running() > options.max_num_seqs) return "too many sequences run";
  const auto by_rank = [](const Sequence* a, const Sequence* b) { return a->rank < b->rank; };
  if (!std::is_sorted(scheduler.running().begin(), scheduler.running().end(), by_rank) ||
      !std::is_sorted(scheduler.waiting().begin(), scheduler.waiting().end(), by_rank)) {
    return "running or waiting out of order";
  }
  return "";
}

std::string check_wave(const Scheduler& scheduler, const runtime::StepPlan& plan,
                       const runtime::SchedulerOptions& options) {
  const runtime::PrefillWave& wave = scheduler.wave();
  if (wave.num_rows() > options.prefill_wave_tokens) return "too many tokens in a wave";
  if (wave.empty() != (wave.next_layer() == 0)) return "an empty wave has begun, or one has not";
  size_t in_wave = 0;
  for (const Sequence* sequence : scheduler.running()) in_wave += sequence->in_wave ? 1 : 0;
  if (in_wave != wave.members().size()) return "a sequence is lost by the wave, or twice in it";
  for (const auto& member : wave.members()) {
    const Sequence& sequence = *member.sequence;
    if (!sequence.in_wave || sequence.state != runtime::SequenceState::kRunning) {
      return "a sequence in the wave does not run";
    }
    if (sequence.num_computed != member.first ||
        member.first + member.count > sequence.num_prompt) {
      return "a sequence in the wave is somewhere else";
    }
  }
  if (plan.wave.places.size() != static_cast<size_t>(plan.wave.num_chunks) ||
      plan.chunks.size() < plan.wave.places.size()) {
    return "the plan's part of the wave is wrong";
  }
  return "";
}

FairnessChecker::Key FairnessChecker::key_of(const Sequence& sequence) {
  return {sequence.request->request.id.value, sequence.index};
}

FairnessChecker::Rank FairnessChecker::rank_of(const Key& key) const {
  Rank rank = ranks_.at(key.first);
  rank.index = key.second;
  return rank;
}

void FairnessChecker::note_arrival(const runtime::RequestState& request) {
  ranks_[request.request.id.value] = {request.request.priority, ++arrivals_, 0};
}

void FairnessChecker::before_step(const Scheduler& scheduler) {
  ran_before_.clear();
  waited_before_.clear();
  for (const Sequence* sequence : scheduler.running()) ran_before_.push_back(key_of(*sequence));
  for (const Sequence* sequence : scheduler.waiting()) waited_before_.push_back(key_of(*sequence));
  if (ran_before_.empty()) return;
  const Sequence* first = scheduler.running().front();
  waves_begun_ = scheduler.wave().num_begun();
  layers_passed_ = scheduler.wave().layers_passed();
  first_progress_ = {first->num_computed, first->num_generated()};
}

std::string FairnessChecker::after_step(const Scheduler& scheduler) {
  std::vector<Key> waits, started;
  for (const Sequence* sequence : scheduler.waiting()) waits.push_back(key_of(*sequence));
  const auto has = [](const std::vector<Key>& keys, const Key& key) {
    return std::find(keys.begin(), keys.end(), key) != keys.end();
  };
  for (const Sequence* sequence : scheduler.running()) {
    const Key key = key_of(*sequence);
    if (!has(ran_before_, key)) started.push_back(key);
    passes_.erase(key);
    if (ran_before_.empty() || key != ran_before_.front()) continue;
    if (std::pair(sequence->num_computed, sequence->num_generated()) != first_progress_) continue;
    const runtime::PrefillWave& wave = scheduler.wave();
    const bool may_wait = sequence->in_wave || wave.num_begun() == waves_begun_;
    if (!may_wait || wave.layers_passed() == layers_passed_) {
      return "the first sequence made no progress";
    }
  }
  if (!ran_before_.empty() && has(waits, ran_before_.front())) {
    return "the first sequence was pre-empted";
  }
  for (const Key& waiting : waits) {
    if (!has(waited_before_, waiting)) continue;
    int32_t& passes = passes_[waiting];
    for (const Key& other : started) passes += rank_of(waiting) < rank_of(other) ? 1 : 0;
    // The limit stops the step after the one that reached it.
    if (passes >= runtime::kPassOversMax + max_num_seqs_) {
      return "request " + std::to_string(waiting.first) + " was passed over " +
             std::to_string(passes) + " times";
    }
  }
  return "";
}

}  // namespace mole::sim
