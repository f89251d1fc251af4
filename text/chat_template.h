// The model's chat template (Jinja, tokenizer_config.json or chat_template.jinja), run in a sandbox
// with fuel and recursion limits: no file, no host access. Thread: const methods from any thread.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

namespace mole::text {

struct TemplateLimits {
  uint64_t fuel = 1'000'000;            // template instructions
  size_t output_bytes_max = 16u << 20;  // rendered prompt
};

/// What a template is rendered with, as JSON text: the order of keys stays the client's, and a
/// template that prints a tool's schema shows it to the model.
struct TemplateInput {
  std::string_view messages;         // a JSON array
  std::string_view tools = "null";   // a JSON array or null
  std::string_view kwargs = "null";  // a JSON object or null: extra variables
  bool add_generation_prompt = false;
  // encode() only: also what the tokenizer's post-processor adds. Most templates write their own
  // BOS.
  bool add_special_tokens = false;
};

struct ChatPrompt {
  std::string text;  // as the template rendered it
  std::vector<TokenId> ids;
};

class ChatTemplate {
 public:
  /// From `folder`/chat_template.jinja, else tokenizer_config.json's "chat_template". A folder with
  /// neither gives a template whose render() fails with kInvalidArgument saying so.
  static StatusOr<std::shared_ptr<const ChatTemplate>> load(const std::filesystem::path& folder);
  static StatusOr<std::shared_ptr<const ChatTemplate>> parse(const std::string& source,
                                                             const Json& special_tokens);
  ~ChatTemplate();

  /// `messages`: array of {"role", "content", …}; `tools`: array or null; `kwargs`: object or null,
  /// extra variables. The template also sees bos_token and its like, add_generation_prompt,
  /// raise_exception() and strftime_now(). Keys come in alphabetical order, as Json keeps them.
  /// Errors: kInvalidArgument (the template's own raise_exception, fuel, recursion, output limit;
  /// with fuel passed_limit() is "fuel").
  StatusOr<std::string> render(const Json& messages, const Json& tools, const Json& kwargs,
                               bool add_generation_prompt, const TemplateLimits& limits = {}) const;

  /// The same from JSON text. Errors: also kInvalidArgument for what is not JSON.
  StatusOr<std::string> render_json(const TemplateInput& input,
                                    const TemplateLimits& limits = {}) const;

  /// The prompt's token ids, with what the client wrote kept apart from what the template wrote:
  /// "<|im_end|>" of the template is the control token, the same characters inside a message, a
  /// tool or a kwarg are plain text (see EncodeOptions::parse_special_tokens). So nobody can end
  /// their own turn and open another's. Encoding the text of render_json() can't tell the two
  /// apart.
  StatusOr<ChatPrompt> encode(const Tokenizer& tokenizer, const TemplateInput& input,
                              const TemplateLimits& limits = {}) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole::text
