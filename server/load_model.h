// From a model directory to a model that answers.
#pragma once

#include <filesystem>
#include <memory>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/status.h"
#include "model/model.h"
#include "server/app.h"
#include "server/settings.h"

namespace mole::server {

/// What lies beside the weights. Reading it takes half a second of one thread with a large
/// vocabulary, so it is done while the weights are loaded.
struct ModelTexts {
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;
  SamplingDefaults defaults;
};

/// Errors: kInvalidArgument, kNotFound, kDataLoss naming the file. Any thread.
StatusOr<ModelTexts> read_model_texts(const std::filesystem::path& folder);

/// Starts the engine on `model`. `clock` and `metrics` must outlive the result.
/// Errors: kInvalidArgument (the tokenizer has more ids than the model); kFailedPrecondition naming
/// the engine's option that does not fit the model.
StatusOr<std::shared_ptr<const ServedModel>> serve_model(std::unique_ptr<model::Model> model,
                                                         ModelTexts texts, const Settings& settings,
                                                         const Clock* clock, Metrics* metrics);

}  // namespace mole::server
