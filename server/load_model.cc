#include "server/load_model.h"

#include <chrono>
#include <filesystem>

namespace mole::server {

StatusOr<std::shared_ptr<const ServedModel>> serve_model(std::unique_ptr<model::Model> model,
                                                         const Settings& settings,
                                                         const Clock* clock, Metrics* metrics) {
  using std::chrono::duration_cast, std::chrono::seconds, std::chrono::system_clock;
  const std::filesystem::path folder = settings.model_path();
  auto served = std::make_shared<ServedModel>();
  served->names = settings.served_model_name;
  if (served->names.empty()) served->names = {default_model_name(settings.model_path())};
  served->created = duration_cast<seconds>(system_clock::now().time_since_epoch()).count();
  MOLE_ASSIGN_OR_RETURN(served->tokenizer, text::Tokenizer::load(folder));
  const int32_t vocab_size = model->info().vocab_size;
  if (served->tokenizer->vocab_size() > vocab_size) {
    return absl::InvalidArgumentError(
        (folder / "tokenizer.json").string() + ": has token ids up to " +
        std::to_string(served->tokenizer->vocab_size() - 1) +
        ", but vocab_size in config.json is " + std::to_string(vocab_size));
  }
  MOLE_ASSIGN_OR_RETURN(served->chat_template, text::ChatTemplate::load(folder));
  MOLE_ASSIGN_OR_RETURN(served->defaults, load_sampling_defaults(folder));
  auto engine = runtime::Engine::create(std::move(model), engine_options(settings), clock, metrics);
  if (!engine.ok()) return absl::FailedPreconditionError(engine.status().message());
  served->engine = *std::move(engine);
  return served;
}

}  // namespace mole::server
