// How prompts share what a step has left: a part of Scheduler, see scheduler.h.
#include <algorithm>
#include <limits>
#include <tuple>

#include "runtime/limits.h"
#include "runtime/scheduler.h"

namespace mole::runtime {
namespace {

using model::AttentionForm;

// A chunk is never made longer than this only to be worth its context: others wait for it.
constexpr int32_t kWorthwhileRowsMax = 512;

}  // namespace

int32_t Scheduler::worthwhile_rows(AttentionForm form, int32_t first) const {
  if (!cost_.known || form != AttentionForm::kExpanded) return 1;
  const double row = cost_.seconds[kExpandedRows] + cost_.seconds[kExpandedPairs] * first;
  const double entries = cost_.seconds[kExpandedContext] * first;
  if (entries >= row * kWorthwhileRowsMax) return entries > 0 ? kWorthwhileRowsMax : 1;
  return std::max(1, static_cast<int32_t>(entries / row));
}

bool Scheduler::sooner_done(const Sequence* a, const Sequence* b) {
  const auto key = [](const Sequence& sequence) {
    return std::tuple(sequence.rank.priority, sequence.num_tokens() - sequence.num_computed,
                      sequence.rank);
  };
  return key(*a) < key(*b);
}

void Scheduler::plan_prefills() {
  if (prefills_.empty() && wave_.empty()) return;
  limit_prefills();
  if (uses_waves()) return plan_with_wave();
  if (left_.tokens > 0) plan_chunks();
}

void Scheduler::plan_chunks() {
  Sequence* oldest = prefills_.front();  // those that ran before stand first, by rank
  const size_t oldest_chunk = plan_.chunks.size();
  plan_chunk(oldest, share_of_oldest(*oldest));
  std::sort(prefills_.begin(), prefills_.end(), sooner_done);
  for (Sequence* sequence : prefills_) {
    if (left_.tokens == 0) return;
    if (sequence == oldest) {
      grow_chunk(&plan_.chunks[oldest_chunk]);
      continue;
    }
    const int32_t first = sequence->num_computed;
    const int32_t most = std::min(left_.tokens, chunk_limit(*sequence, first, left_.scored_rows));
    const AttentionForm form = sequence->next_form();
    const int32_t count = rows_in_time(form, first, most, false);
    if (count < std::min(most, worthwhile_rows(form, first))) continue;
    if (count > 0) plan_chunk(sequence, count);
  }
}

// What the step may take, now that it is known who waits in it for a token.
void Scheduler::limit_prefills() {
  left_.seconds = std::numeric_limits<double>::infinity();
  if (options_.target_itl_us == 0) return;
  const bool decodes = plan_.num_decodes > 0;
  if (!cost_.known) {
    left_.tokens = std::min(left_.tokens, decodes ? kUnknownCostTokens : kUnknownCostTokensIdle);
    return;
  }
  left_.seconds = static_cast<double>(options_.target_itl_us) * 1e-6;
  if (!decodes) left_.seconds *= kTargetsPerIdleStep;
}

int32_t Scheduler::share_of_oldest(const Sequence& sequence) const {
  const int32_t first = sequence.num_computed;
  const int32_t most = std::min(left_.tokens, chunk_limit(sequence, first, left_.scored_rows));
  const AttentionForm form = sequence.next_form();
  const int32_t fitting = rows_in_time(form, first, most, false);
  const int32_t share = (fitting + kOldestPrefillShare - 1) / kOldestPrefillShare;
  int32_t least = options_.prefill_chunk_min;
  if (fitting < most) least = std::max(least, worthwhile_rows(form, first));
  return std::min(most, std::max(share, least));
}

// The most rows up to `most` of a new chunk from `first` on, or added to one that ends there, with
// which the step stays within its time.
int32_t Scheduler::rows_in_time(AttentionForm form, int32_t first, int32_t most, bool grows) const {
  const auto in_time = [&](int32_t rows) {
    StepWork with = plan_.work;
    if (grows && form == AttentionForm::kExpanded) {
      with.grow_expanded(first, rows);
    } else {
      with.add(form, first, rows);
    }
    return cost_.predict(with) <= left_.seconds;
  };
  if (left_.seconds == std::numeric_limits<double>::infinity() || in_time(most)) return most;
  int32_t good = 0, bad = most;
  while (bad - good > 1) {
    const int32_t middle = good + (bad - good) / 2;
    (in_time(middle) ? good : bad) = middle;
  }
  return good;
}

void Scheduler::grow_chunk(PlannedChunk* chunk) {
  const Sequence& sequence = *chunk->sequence;
  const int32_t end = chunk->first + chunk->count;
  const int32_t most = std::min(left_.tokens, chunk_limit(sequence, end, left_.scored_rows));
  if (most <= 0) return;
  const int32_t more = rows_in_time(chunk->form, end, most, true);
  if (more == 0) return;
  if (chunk->form == AttentionForm::kExpanded) {
    plan_.work.grow_expanded(end, more);
  } else {
    plan_.work.add(chunk->form, end, more);
  }
  left_.tokens -= more;
  left_.scored_rows -= sequence.scored_in(end, end + more);
  chunk->count += more;
}

}  // namespace mole::runtime
