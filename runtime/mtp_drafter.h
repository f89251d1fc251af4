// Drafts by the model's own multi-token-prediction module. After each step the module passes over
// the positions that the step computed (its layer of the cache wants every one), then goes on from
// its own drafts, one token a pass. A draft is drawn with the same random number as the token that
// it guesses, so that sampled requests gain too. Only ever proposes: what is generated does not
// depend on it. All memory is taken at construction. Thread: engine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "runtime/batch_builder.h"
#include "runtime/step_plan.h"
#include "runtime/step_sampler.h"

namespace mole::runtime {

/// How many drafts a sequence should get, of at most `most`: as long as each is right with at least
/// the chance `chance_min`, and now and then one that isn't.
int32_t drafts_wanted(const Sequence& sequence, int32_t most, double chance_min);

/// The chance from which on the module's work for one draft more pays: a right one saves a row of a
/// later step. kDraftChanceMin while costs are not known.
double least_draft_chance(const StepPlan& plan, const StepCost& cost);

class MtpDrafter {
 public:
  /// `options` as the step's; `drafts_max` for one sequence.
  MtpDrafter(const BatchBuilderOptions& options, int32_t drafts_max);

  /// Fills in the drafts of the plan's sequences, whose results were published. Must come after the
  /// model's forward of that plan, before its next. `chance_min` as for drafts_wanted(). Returns
  /// how many drafts were made. Errors: the model's.
  StatusOr<int32_t> draft(const StepPlan& plan, double chance_min, model::Model& model,
                          model::KvCache& cache, StepSampler& sampler);

 private:
  struct Active {
    Sequence* sequence = nullptr;
    int32_t row = 0;  // of the last pass, its last
    int32_t wanted = 0;
  };
  void begin();
  void add_step_rows(const StepPlan& plan, double chance_min);
  void add_row(TokenId token, int32_t position, int32_t source_row);
  void end_sequence(const Sequence& sequence, model::AttentionForm form);
  StatusOr<std::span<const float>> pass(model::DraftSource source, model::Model& model,
                                        model::KvCache& cache);
  void take_drafts(std::span<const float> logits, const model::ModelInfo& info,
                   StepSampler& sampler);
  void add_draft_rows();

  const int32_t drafts_max_;
  std::vector<Active> active_;
  std::vector<TokenId> token_ids_;
  std::vector<int32_t> positions_, rows_, sequence_starts_, block_tables_, logit_rows_;
  std::vector<model::AttentionForm> forms_;
  std::vector<const Sequence*> sequences_;  // of this pass
};

}  // namespace mole::runtime
