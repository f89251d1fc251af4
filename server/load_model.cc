#include "server/load_model.h"

#include <chrono>
#include <utility>

namespace mole::server {

StatusOr<ModelTexts> read_model_texts(const std::filesystem::path& folder) {
  ModelTexts texts;
  MOLE_ASSIGN_OR_RETURN(texts.tokenizer, text::Tokenizer::load(folder));
  MOLE_ASSIGN_OR_RETURN(texts.chat_template, text::ChatTemplate::load(folder));
  MOLE_ASSIGN_OR_RETURN(texts.defaults, load_sampling_defaults(folder));
  return texts;
}

StatusOr<std::shared_ptr<const ServedModel>> serve_model(std::unique_ptr<model::Model> model,
                                                         ModelTexts texts, const Settings& settings,
                                                         const Clock* clock, Metrics* metrics) {
  using std::chrono::duration_cast, std::chrono::seconds, std::chrono::system_clock;
  const std::filesystem::path folder = settings.model_path();
  auto served = std::make_shared<ServedModel>();
  served->names = settings.served_model_name;
  if (served->names.empty()) served->names = {default_model_name(settings.model_path())};
  served->created = duration_cast<seconds>(system_clock::now().time_since_epoch()).count();
  served->tokenizer = std::move(texts.tokenizer);
  served->chat_template = std::move(texts.chat_template);
  served->defaults = std::move(texts.defaults);
  const int32_t vocab_size = model->info().vocab_size;
  if (served->tokenizer->vocab_size() > vocab_size) {
    return absl::InvalidArgumentError(
        (folder / "tokenizer.json").string() + ": has token ids up to " +
        std::to_string(served->tokenizer->vocab_size() - 1) +
        ", but vocab_size in config.json is " + std::to_string(vocab_size));
  }
  auto engine = runtime::Engine::create(std::move(model), engine_options(settings), clock, metrics);
  if (!engine.ok()) return absl::FailedPreconditionError(engine.status().message());
  served->engine = *std::move(engine);
  return served;
}

}  // namespace mole::server
