// What a step of the model costs, as a function of what it does. Values only: no clock, no state.
//
// The work of a step is summed over its chunks into a few factors, each of which costs so many
// seconds a unit. StepTimeModel learns these costs; the scheduler asks predict() how long the step
// would take that it is about to plan. Source: ours; the factors are what a step of MLA + MoE reads
// and multiplies.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "model/model.h"

namespace mole::runtime {

/// What costs time in a step. Order of StepFactors.
enum StepFactor : size_t {
  kAnyStep,          // 1: a step at all
  kExpertsRead,      // share of the routed experts that are read
  kAbsorbedRows,     // generated tokens and drafts
  kAbsorbedPairs,    // absorbed rows x the entries they attend to
  kExpandedRows,     // prompt tokens
  kExpandedContext,  // entries that expanded chunks attend to
  kExpandedPairs,    // expanded rows x the entries they attend to
  kModuleDrafts,     // drafts that the model's module made behind the step
  kStepFactors,
};
using StepFactors = std::array<double, kStepFactors>;

/// The chunks of a wave, summed as those of a step. They pass `share` of the layers in it, and cost
/// that share.
struct WaveWork {
  double share = 0;
  int32_t rows = 0;
  double context = 0;
  double pairs = 0;

  /// An expanded chunk of positions [first, first + count).
  void add(int32_t first, int32_t count);
};

/// The chunks of one step, summed.
struct StepWork {
  int32_t absorbed_rows = 0;
  double absorbed_pairs = 0;
  int32_t expanded_rows = 0;
  double expanded_context = 0;
  double expanded_pairs = 0;
  int32_t module_drafts = 0;
  WaveWork wave;  // beside the above

  /// A chunk of positions [first, first + count). Cutting a chunk in two gives the same sums but
  /// for expanded_context, which each part pays for itself.
  void add(model::AttentionForm form, int32_t first, int32_t count);
  /// An expanded chunk that ended before position `end` gets `more` rows.
  void grow_expanded(int32_t end, int32_t more);
  bool empty() const { return absorbed_rows + expanded_rows + wave.rows == 0; }
  /// `expert_share`: a token's share of the routed experts, num_experts_per_token / num_experts.
  StepFactors factors(double expert_share) const;
};

/// What each factor costs, as far as it is known.
struct StepCost {
  StepFactors seconds{};    // per unit, each >= 0
  double expert_share = 0;  // see StepWork::factors; 0 = the model has no experts
  bool known = false;       // enough steps were seen; until then predict() means nothing

  double predict(const StepWork& work) const;
};

}  // namespace mole::runtime
