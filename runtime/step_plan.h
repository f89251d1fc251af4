// What the scheduler decided for one step. Plain data: it can be logged and compared.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "runtime/sequence.h"
#include "runtime/step_cost.h"

namespace mole::runtime {

/// Consecutive tokens of one sequence, all of one attention form.
struct PlannedChunk {
  Sequence* sequence = nullptr;
  int32_t first = 0;  // position of the first token
  int32_t count = 0;
  model::AttentionForm form = model::AttentionForm::kExpanded;
  int32_t logits_first = 0;  // positions [logits_first, logits_first + num_logits) give logits:
  int32_t num_logits = 0;    // first the prompt positions to score,
  bool samples = false;      // then, if `samples`, the sequence's last token and the drafts behind
  int32_t num_drafts = 0;    // it: the chunk's last so many tokens are the sequence's drafts
  bool ends = true;          // false: part of a wave, of which layers are left for later steps

  int32_t num_scored() const { return num_logits - (samples ? 1 + num_drafts : 0); }
  /// Tokens of the sequence in the chunk, without drafts.
  int32_t num_own() const { return count - num_drafts; }
};

/// The plan's part of a wave (model::WavePass): its last `num_chunks` chunks, and their places.
struct PlannedWave {
  int32_t num_chunks = 0;
  int32_t begin_layer = 0;
  int32_t end_layer = 0;
  std::vector<int32_t> places;
};

/// Which sequence a chunk is of, for when the sequence itself is gone.
struct SequenceName {
  RequestId request;
  int32_t index = 0;
};
SequenceName name_of(const PlannedChunk& chunk);

/// A request that ended in planning because its time was up.
struct ExpiredRequest {
  RequestState* request = nullptr;
  bool in_queue = false;  // it waited longer than the queue's limit; else its deadline passed
};

struct StepPlan {
  std::vector<PlannedChunk> chunks;  // decoding sequences first, each group by rank; a wave last
  PlannedWave wave;
  std::vector<ExpiredRequest> expired;
  int32_t num_tokens = 0;
  int32_t num_logit_rows = 0;
  int32_t num_preempted = 0;  // sequences that lost their blocks in this planning
  int32_t num_drafts = 0;     // tokens that are only guessed
  int32_t num_decodes = 0;    // chunks of sequences that only wait for their next token
  StepWork work;              // what the step costs depends on this

  void clear();
  /// One line of JSON, without token values: prompts are never logged.
  std::string to_json() const;
  /// The same of a copy that outlives its sequences: `names` of each chunk.
  std::string to_json(std::span<const SequenceName> names) const;
};

}  // namespace mole::runtime
