// Prompts that pass the layers over several steps: a part of Scheduler, see scheduler.h.
#include <algorithm>

#include "runtime/injected_bug.h"
#include "runtime/limits.h"
#include "runtime/scheduler.h"

namespace mole::runtime {

using model::AttentionForm;

namespace {

bool by_rank(const Sequence* a, const Sequence* b) { return a->rank < b->rank; }

}  // namespace

int32_t Scheduler::wave_rows_max() const {
  // Beside all sequences' own tokens, so that a wave that has begun fits every later step.
  return std::min(options_.prefill_wave_tokens,
                  options_.max_num_batched_tokens - options_.max_num_seqs);
}

bool Scheduler::uses_waves() const {
  if (!wave_.empty()) return true;
  return options_.target_itl_us > 0 && cost_.known && options_.num_layers > 1 &&
         wave_rows_max() >= options_.prefill_chunk_min;
}

// What a wave under way takes of the step in any case: its tokens, and the time of one layer.
void Scheduler::reserve_wave() {
  if (wave_.empty()) return;
  left_.tokens -= wave_.num_rows();
  for (const PrefillWave::Member& member : wave_.members()) {
    left_.scored_rows -= member.sequence->scored_in(member.first, member.first + member.count);
  }
  plan_.work.wave = wave_.work();
  plan_.work.wave.share = 1.0 / options_.num_layers;
}

// The oldest prompt comes first. Then come prompts that the step has time for to their end, the
// others go in a wave.
void Scheduler::plan_with_wave() {
  std::erase_if(prefills_, [](const Sequence* sequence) { return sequence->in_wave; });
  if (!prefills_.empty() && left_.tokens > 0) plan_oldest();
  const double seconds = left_.seconds;
  if (!wave_.empty()) {
    left_.seconds -= std::max(0.0, seconds - cost_.predict(plan_.work)) / kOldestPrefillShare;
  }
  std::sort(prefills_.begin(), prefills_.end(), sooner_done);
  plan_whole_prompts();
  left_.seconds = seconds;
  if (wave_.empty() && !prefills_.empty()) {
    lead_wave(*std::min_element(prefills_.begin(), prefills_.end(), by_rank));
  }
  if (wave_.next_layer() == 0) fill_wave();
  if (!wave_.empty()) run_wave();
}

void Scheduler::plan_oldest() {
  Sequence* oldest = prefills_.front();
  if (oldest->next_form() == AttentionForm::kAbsorbed) {
    plan_chunk(oldest, share_of_oldest(*oldest));
  } else if (fits(*oldest)) {
    plan_chunk(oldest, chunk_limit(*oldest, oldest->num_computed, left_.scored_rows));
  } else {
    if (wave_.empty()) lead_wave(oldest);
    return;
  }
  prefills_.erase(prefills_.begin());
}

// Whether the step has room and time for all that is left of a prompt.
bool Scheduler::fits(const Sequence& sequence) const {
  const int32_t most = chunk_limit(sequence, sequence.num_computed, left_.scored_rows);
  return most > 0 && most <= left_.tokens &&
         rows_in_time(sequence.next_form(), sequence.num_computed, most, false) == most;
}

// Plans what is sooner done first, and leaves in prefills_ who gets nothing, and who leads the
// wave. Replays of generated tokens have no context to expand: they go as far as there is time.
void Scheduler::plan_whole_prompts() {
  size_t kept = 0;
  for (Sequence* sequence : prefills_) {
    const int32_t first = sequence->num_computed;
    if (sequence->next_form() == AttentionForm::kAbsorbed) {
      const int32_t most = std::min(left_.tokens, chunk_limit(*sequence, first, left_.scored_rows));
      const int32_t count = rows_in_time(AttentionForm::kAbsorbed, first, most, false);
      if (count > 0) plan_chunk(sequence, count);
    } else if (!sequence->in_wave && fits(*sequence)) {
      plan_chunk(sequence, chunk_limit(*sequence, first, left_.scored_rows));
    } else {
      prefills_[kept++] = sequence;
    }
  }
  prefills_.resize(kept);
}

// The first member, with its least share.
void Scheduler::lead_wave(Sequence* sequence) {
  const int32_t first = sequence->num_computed;
  const int32_t most = std::min(wave_room(), chunk_limit(*sequence, first, left_.scored_rows));
  if (most <= 0) return;
  const int32_t share =
      (rows_for_wave(*sequence, first, false) + kOldestPrefillShare - 1) / kOldestPrefillShare;
  const int32_t least =
      std::max(options_.prefill_chunk_min, worthwhile_rows(AttentionForm::kExpanded, first));
  wave_.join(sequence, std::min(most, std::max(share, least)));
  take_for_wave(*sequence, first, wave_.num_rows());
}

// The others as far as there is room, and last what the first member lacks.
void Scheduler::fill_wave() {
  for (Sequence* sequence : prefills_) {
    if (sequence->in_wave) continue;
    const int32_t first = sequence->num_computed, rows = rows_for_wave(*sequence, first, false);
    const int32_t left = chunk_limit(*sequence, first, left_.scored_rows);
    if (rows == 0 || rows < std::min(left, worthwhile_rows(AttentionForm::kExpanded, first))) {
      continue;
    }
    wave_.join(sequence, rows);
    take_for_wave(*sequence, first, rows);
  }
  if (wave_.empty()) return;
  const PrefillWave::Member& leader = wave_.members().front();
  const int32_t end = leader.first + leader.count;
  const int32_t more = rows_for_wave(*leader.sequence, end, true);
  if (more == 0) return;
  wave_.grow(leader.sequence, more);
  take_for_wave(*leader.sequence, end, more);
}

int32_t Scheduler::wave_room() const {
  return std::min(left_.tokens, wave_rows_max() - wave_.num_rows());
}

// How many of its tokens from `first` on the wave can take. Several layers should fit the step, as
// what is left behind the last that fits is lost; also once somebody waits for a token.
int32_t Scheduler::rows_for_wave(const Sequence& sequence, int32_t first, bool grows) const {
  const int32_t most = std::min(wave_room(), chunk_limit(sequence, first, left_.scored_rows));
  StepWork without = plan_.work;
  without.wave = {};
  const double begun = std::max(cost_.predict(without), cost_.seconds[kAnyStep]);
  const double target = static_cast<double>(options_.target_itl_us) * 1e-6;
  const double seconds =
      begun + (std::min(left_.seconds, std::max(target, begun)) - begun) / kWaveLayersPerStep;
  const auto in_time = [&](int32_t rows) {
    StepWork with = without;
    with.wave = wave_.work();
    with.wave.add(first, rows);
    if (grows) with.wave.context -= first;  // counted with the rows before
    with.wave.share = 1.0 / options_.num_layers;
    return cost_.predict(with) <= seconds;
  };
  if (most <= 0) return 0;
  if (in_time(most)) return most;
  int32_t good = 0, bad = most;
  while (bad - good > 1) {
    const int32_t middle = good + (bad - good) / 2;
    (in_time(middle) ? good : bad) = middle;
  }
  return good;
}

void Scheduler::take_for_wave(const Sequence& sequence, int32_t first, int32_t count) {
  plan_.work.wave = wave_.work();
  plan_.work.wave.share = 1.0 / options_.num_layers;
  left_.tokens -= count;
  left_.scored_rows -= sequence.scored_in(first, first + count);
}

// As many layers as the step has time for, evenly over the steps that the rest will take.
void Scheduler::run_wave() {
  const int32_t begin = wave_.next_layer(), left = options_.num_layers - begin;
  int32_t layers = left;
  for (; layers > 1; --layers) {
    plan_.work.wave.share = static_cast<double>(layers) / options_.num_layers;
    if (cost_.predict(plan_.work) <= left_.seconds) break;
  }
  const int32_t steps = (left + layers - 1) / layers;
  layers = (left + steps - 1) / steps;
  plan_.work.wave.share = static_cast<double>(layers) / options_.num_layers;
  plan_.wave.num_chunks = static_cast<int32_t>(wave_.members().size());
  plan_.wave.begin_layer = begin;
  plan_.wave.end_layer = begin + layers;
  const bool ends = layers == left || (injected(InjectedBug::kWaveEndsEarly) && layers == left - 1);
  for (const PrefillWave::Member& member : wave_.members()) {
    plan_.chunks.push_back({.sequence = member.sequence,
                            .first = member.first,
                            .count = member.count,
                            .form = AttentionForm::kExpanded,
                            .ends = ends});
  }
  wave_.advance(ends ? left : layers, &plan_.wave.places);
}

}  // namespace mole::runtime
