#include "text/chat_template.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "text/rust_border.h"

namespace mole::text {
namespace {

constexpr size_t kTemplateBytesMax = size_t{1} << 20;
constexpr size_t kConfigBytesMax = size_t{16} << 20;
// "added_tokens_decoder" has an object for each of up to some thousand added tokens.
constexpr JsonLimits kConfigLimits{
    .depth_max = 64, .nodes_max = 2'000'000, .object_keys_max = 100'000};

constexpr std::array<std::string_view, 7> kSpecialTokens = {
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"};

/// A special token is written as a string or as {"content": …}; null if there is none.
Json token_text(const Json& value) {
  if (value.is_string()) return value;
  if (value.is_object() && value.contains("content") && value["content"].is_string()) {
    return value["content"];
  }
  return nullptr;
}

Json special_tokens_of(const Json& config) {
  Json tokens = Json::object();
  for (const std::string_view name : kSpecialTokens) {
    const auto found = config.find(name);
    if (found == config.end()) continue;
    Json text = token_text(*found);
    if (text.is_string()) tokens[std::string(name)] = std::move(text);
  }
  return tokens;
}

/// "chat_template" is a string, or a list of {"name", "template"} of which "default" is meant.
StatusOr<std::string> template_of(const Json& config) {
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const Json& entry : *found) {
      if (!entry.is_object() || entry.value("name", Json()) != "default") continue;
      const Json source = entry.value("template", Json());
      if (source.is_string()) return source.get<std::string>();
    }
  }
  return absl::InvalidArgumentError(
      "\"chat_template\" is neither a string nor a list with an entry named \"default\"");
}

StatusOr<Json> read_config(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return Json::object();
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(path, kConfigBytesMax));
  MOLE_ASSIGN_OR_RETURN(Json config, parse_json(text, kConfigLimits));
  if (!config.is_object()) return absl::InvalidArgumentError("the file is not a JSON object");
  return config;
}

Status no_template() {
  return absl::InvalidArgumentError(
      "this model has no chat template (chat_template.jinja, or \"chat_template\" in "
      "tokenizer_config.json): use plain completions");
}

mole_text_template_input raw_input(const TemplateInput& input) {
  return {rust_bytes(input.messages), input.messages.size(),    rust_bytes(input.tools),
          input.tools.size(),         rust_bytes(input.kwargs), input.kwargs.size(),
          input.add_generation_prompt};
}

}  // namespace

struct ChatTemplate::Impl {
  struct Free {
    void operator()(mole_text_template* rust) const { mole_text_template_free(rust); }
  };
  std::unique_ptr<mole_text_template, Free> rust;  // null: the model has no template
};

ChatTemplate::ChatTemplate(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ChatTemplate::~ChatTemplate() = default;

StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::load(
    const std::filesystem::path& folder) {
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  auto config = read_config(config_path);
  MOLE_RETURN_IF_ERROR(annotate(config.status(), config_path.string()));
  std::filesystem::path source_path = folder / "chat_template.jinja";
  std::string source;
  if (std::filesystem::exists(source_path)) {
    MOLE_ASSIGN_OR_RETURN(source, read_file(source_path, kTemplateBytesMax));
  } else {
    source_path = config_path;
    auto found = template_of(*config);
    MOLE_RETURN_IF_ERROR(annotate(found.status(), config_path.string()));
    source = *std::move(found);
  }
  if (source.empty()) {
    return std::shared_ptr<const ChatTemplate>(new ChatTemplate(std::make_unique<Impl>()));
  }
  auto parsed = parse(source, special_tokens_of(*config));
  MOLE_RETURN_IF_ERROR(annotate(parsed.status(), source_path.string()));
  return parsed;
}

StatusOr<std::shared_ptr<const ChatTemplate>> ChatTemplate::parse(const std::string& source,
                                                                  const Json& special_tokens) {
  const std::string tokens = special_tokens.dump(-1, ' ', false, Json::error_handler_t::replace);
  auto impl = std::make_unique<Impl>();
  mole_text_template* rust = nullptr;
  MOLE_RETURN_IF_ERROR(take_status(mole_text_template_parse(
      rust_bytes(source), source.size(), rust_bytes(tokens), tokens.size(), &rust)));
  impl->rust.reset(rust);
  return std::shared_ptr<const ChatTemplate>(new ChatTemplate(std::move(impl)));
}

StatusOr<std::string> ChatTemplate::render(const Json& messages, const Json& tools,
                                           const Json& kwargs, bool add_generation_prompt,
                                           const TemplateLimits& limits) const {
  // Values of ours are UTF-8 already (parse_json); `replace` only keeps dump() from throwing.
  const auto text = [](const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
  };
  const std::string messages_text = text(messages), tools_text = text(tools);
  const std::string kwargs_text = text(kwargs);
  return render_json({messages_text, tools_text, kwargs_text, add_generation_prompt}, limits);
}

StatusOr<std::string> ChatTemplate::render_json(const TemplateInput& input,
                                                const TemplateLimits& limits) const {
  if (!impl_->rust) return no_template();
  const mole_text_template_input raw = raw_input(input);
  mole_text_bytes text{};
  MOLE_RETURN_IF_ERROR(take_status(mole_text_template_render(impl_->rust.get(), &raw, limits.fuel,
                                                             limits.output_bytes_max, &text)));
  return take_bytes(text);
}

StatusOr<ChatPrompt> ChatTemplate::encode(const Tokenizer& tokenizer, const TemplateInput& input,
                                          const TemplateLimits& limits) const {
  if (!impl_->rust) return no_template();
  const mole_text_template_input raw = raw_input(input);
  mole_text_prompt prompt{};
  MOLE_RETURN_IF_ERROR(take_status(
      mole_text_template_encode(impl_->rust.get(), tokenizer.rust(), &raw, input.add_special_tokens,
                                limits.fuel, limits.output_bytes_max, &prompt)));
  return ChatPrompt{take_bytes(prompt.text), take_ids(prompt.ids)};
}

}  // namespace mole::text
