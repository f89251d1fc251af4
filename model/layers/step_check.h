// From what the runtime hands over to what the layers work with: everything is checked once, here.
#pragma once

#include <string>

#include "base/status.h"
#include "model/layers/step_context.h"
#include "model/model.h"

namespace mole::model {

/// Checks ids, layout, positions, pages and the cache's shape, and fills `step` anew. Spans of
/// `input` stay in it. Errors: kInternal, naming what is wrong.
Status fill_context(const StepInput& input, const ModelInfo& info, KvCache& cache,
                    StepContext* step);

/// The step without its wave, and without logits. Requires a wave that check_wave() accepts.
StepInput without_wave(const StepInput& input);
/// Checks what WavePass asks for. Errors: kInternal, naming what is wrong.
Status check_wave(const StepInput& input, const ModelInfo& info);

/// kInternal, as every step that can't be done.
Status refuse_step(const std::string& what);

}  // namespace mole::model
