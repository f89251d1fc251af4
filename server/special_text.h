// Keeps what users write from becoming special tokens. Before the chat template runs, every
// spelling of a special token in a message is replaced by a marker; in the rendered prompt the
// markers are resolved to plain text, while the template's own special tokens stay special. Text
// without such spellings is untouched, so its tokens are exactly those of the template. Thread: one
// owner.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

namespace mole::server {

class SpecialText {
 public:
  /// `spellings`: sorted; must outlive this.
  explicit SpecialText(const std::vector<std::string>& spellings) : spellings_(spellings) {}

  /// Hides every spelling in every string within `value` (object keys are left alone).
  void hide(Json* value);

  /// Encodes what the template made of the hidden text.
  /// Errors: kInvalidArgument; with "context_length_exceeded: " past `tokens_max`, found early.
  StatusOr<std::vector<TokenId>> encode(const text::Tokenizer& tokenizer, std::string_view rendered,
                                        bool add_special_tokens, size_t tokens_max) const;

 private:
  void hide_in(std::string* text);
  std::string_view original(std::string_view number) const;

  const std::vector<std::string>& spellings_;
  std::vector<std::string> hidden_;
};

/// The longest of the sorted `spellings` that `text` begins with, or nothing.
std::string_view longest_prefix(const std::vector<std::string>& spellings, std::string_view text);

}  // namespace mole::server
