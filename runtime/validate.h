// The border: what a user may ask of the engine, and what an operator may set. Behind it values are
// trusted. Every message names the field, its value and what is accepted.
#pragma once

#include "base/status.h"
#include "model/model.h"
#include "runtime/engine.h"
#include "runtime/request.h"

namespace mole::runtime {

/// `options` as resolve_options() gave them. Errors: kInvalidArgument; the message begins with
/// "context_length_exceeded: " when prompt and max_tokens together pass max_model_len.
Status validate(const GenerateRequest& request, const model::ModelInfo& info,
                const EngineOptions& options);

/// Fills in the zeros and checks the rest. Errors: kInvalidArgument naming the option.
StatusOr<EngineOptions> resolve_options(EngineOptions options, const model::ModelInfo& info);

}  // namespace mole::runtime
