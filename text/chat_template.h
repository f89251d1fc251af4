// The model's chat template (Jinja, tokenizer_config.json or chat_template.jinja), run in a sandbox
// with fuel and recursion limits: no file, no host access. Thread: const methods from any thread.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace mole::text {

struct TemplateLimits {
  uint64_t fuel = 1'000'000;             // template instructions
  size_t output_bytes_max = 16u << 20;   // rendered prompt
};

class ChatTemplate {
 public:
  /// From `folder`/chat_template.jinja, else tokenizer_config.json's "chat_template". A folder with
  /// neither gives a template whose render() fails with kInvalidArgument saying so.
  static StatusOr<std::shared_ptr<const ChatTemplate>> load(const std::filesystem::path& folder);
  static StatusOr<std::shared_ptr<const ChatTemplate>> parse(const std::string& source,
                                                             const Json& special_tokens);
  ~ChatTemplate();

  /// `messages`: array of {"role", "content", …}; `tools`: array or null; `kwargs`: extra variables.
  /// Sees bos_token, eos_token, add_generation_prompt, raise_exception(), strftime_now().
  /// Errors: kInvalidArgument (template's own raise_exception, fuel, recursion, output limit).
  StatusOr<std::string> render(const Json& messages, const Json& tools, const Json& kwargs,
                               bool add_generation_prompt,
                               const TemplateLimits& limits = {}) const;

 private:
  struct Impl;
  explicit ChatTemplate(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole::text
