// From a model directory to a model that answers.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/status.h"
#include "model/model.h"
#include "server/app.h"
#include "server/settings.h"

namespace mole::server {

/// Reads what lies beside the weights (tokenizer, chat template, sampling defaults) and starts the
/// engine on `model`. `clock` and `metrics` must outlive the result.
/// Errors: kInvalidArgument, kNotFound, kDataLoss naming the file; kFailedPrecondition naming the
/// engine's option that does not fit the model.
StatusOr<std::shared_ptr<const ServedModel>> serve_model(std::unique_ptr<model::Model> model,
                                                         const Settings& settings,
                                                         const Clock* clock, Metrics* metrics);

}  // namespace mole::server
