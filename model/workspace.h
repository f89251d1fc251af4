// Memory of a step's intermediate values, as a rule of its size. They are taken once, for the
// largest step, and used again by all later ones.
#pragma once

#include <cstdint>

#include "base/json.h"
#include "model/model.h"

namespace mole::model {

struct WorkspaceShape {
  int64_t token_bytes = 0;    // for each token of the step
  int64_t context_bytes = 0;  // for each token of the longest context: its expanded keys and values
  int64_t logits_bytes = 0;   // for each row whose logits are wanted

  int64_t bytes(int64_t tokens, int64_t context, int64_t logit_rows) const {
    return tokens * token_bytes + context * context_bytes + logit_rows * logits_bytes;
  }
};

/// From a config.json that was checked, and what was read from it. A block of memory serves one
/// value after another, so what counts is what lives at the same time.
WorkspaceShape workspace_of(const Json& config, const ModelInfo& info);

}  // namespace mole::model
