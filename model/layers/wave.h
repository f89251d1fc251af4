// Prompt rows that pass the layers over several steps (WavePass in model.h): where their hidden
// states wait between two steps, and how a step with such rows goes through the decoder.
//
// The rows before the wave's pass all layers in every step. Together with the wave's they pass
// layers [begin_layer, end_layer), so that a layer's weights are read once for both.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "base/status.h"
#include "model/layers/decoder.h"
#include "model/layers/step_context.h"
#include "model/model.h"

namespace mole::model {

class Wave {
 public:
  /// One step with a wave. `all` was filled from `input`. Returns the hidden states after the last
  /// layer of all rows if the wave has passed it, else of the rows before the wave's (undefined if
  /// there are none). all.expert_loads: every layer's, as without a wave.
  /// Errors: kInternal (what WavePass asks for does not hold).
  StatusOr<at::Tensor> forward(const StepInput& input, KvCache& cache, Decoder& decoder,
                               StepContext& all);

 private:
  Status begin_or_go_on(const StepInput& input, const Decoder& decoder);
  /// The rows' states to (keep) or from (else) rows [first_row, T) of x [T, D].
  void move_states(const StepInput& input, const at::Tensor& x, bool keep) const;

  StepContext steady_;      // the rows before the wave's
  at::Tensor states_;       // [places, D] before layer next_layer_
  int32_t next_layer_ = 0;  // 0 = no wave is under way
};

}  // namespace mole::model
