// Which drafts a step verifies: a part of Scheduler, see scheduler.h.
#include <algorithm>

#include "runtime/injected_bug.h"
#include "runtime/limits.h"
#include "runtime/scheduler.h"

namespace mole::runtime {

using model::AttentionForm;
using model::kBlockTokens;

void Scheduler::plan_drafts() {
  if (left_.draft_rows == 0) return;
  // The oldest prompt's least chunk comes before drafts.
  const bool prompts = num_running() > plan_.num_decodes || !waiting_.empty();
  int32_t tokens = left_.tokens - (prompts ? options_.prefill_chunk_min : 0);
  double expected = plan_.num_decodes;
  for (PlannedChunk& chunk : plan_.chunks) draft_behind(&chunk, &tokens, &expected);
}

// Adds drafts to a decode as long as they pay; `expected` tokens come from the step so far.
void Scheduler::draft_behind(PlannedChunk* chunk, int32_t* tokens, double* expected) {
  Sequence* sequence = chunk->sequence;
  const DraftRecord& record = sequence->draft_record;
  // The step gives one token more than it verifies drafts.
  int32_t most = sequence->request->request.sampling.max_tokens - sequence->num_generated() - 1;
  most = std::min({most, static_cast<int32_t>(sequence->drafts.size()), *tokens, left_.draft_rows});
  const double target_s = static_cast<double>(options_.target_itl_us) * 1e-6;
  double chance = 1;
  while (chunk->num_drafts < most) {
    const int32_t position = chunk->first + chunk->count;
    chance *= record.rate();
    if (cost_.known) {
      StepWork with = plan_.work;
      with.add(AttentionForm::kAbsorbed, position, 1);
      const double seconds = cost_.predict(plan_.work), with_seconds = cost_.predict(with);
      const bool pays = chance * seconds > *expected * (with_seconds - seconds);
      const bool probes =
          chunk->num_drafts < kProbeDrafts && record.probe_due(sequence->num_generated());
      if (!pays && !probes) return;
      if (target_s > 0 && with_seconds > target_s) return;
    }
    if (!make_room_for_draft(sequence, position)) return;
    plan_.work.add(AttentionForm::kAbsorbed, position, 1);
    ++plan_.num_drafts;
    ++chunk->num_drafts;
    ++chunk->count;
    --left_.tokens;
    --left_.draft_rows;
    --*tokens;
    *expected += chance;
  }
}

// Takes a block only if every running sequence could still get its next one.
bool Scheduler::make_room_for_draft(Sequence* sequence, int32_t position) {
  if (position < static_cast<int32_t>(sequence->blocks.size()) * kBlockTokens) return true;
  if (cache_.num_free() <= num_running()) return false;
  sequence->blocks.push_back(cache_.take());
  return true;
}

}  // namespace mole::runtime
