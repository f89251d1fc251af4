// Text to token ids and back, exactly as the model's tokenizer.json (Hugging Face format) says.
// Thread: const methods from any thread. Behind it stands the Rust library of text/rust.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/status.h"

struct mole_text_tokenizer;  // of text/mole_text.h

namespace mole::text {

struct TokenTable;

struct EncodeOptions {
  bool add_special_tokens = true;  // what the tokenizer's post-processor adds (BOS, …)
  // false: "<|eos|>" in the text is plain text (user input), and so is every special token and
  // every token of the form <|name|> or <｜name｜>, whether or not the file calls it special.
  bool parse_special_tokens = true;
};

class Tokenizer {
 public:
  /// Reads `folder`/tokenizer.json (at most 64 MiB).
  /// Errors: kNotFound; kInvalidArgument naming the file and what is wrong in it.
  static StatusOr<std::shared_ptr<const Tokenizer>> load(const std::filesystem::path& folder);
  ~Tokenizer();

  /// Errors: kInvalidArgument if `text` is not UTF-8.
  StatusOr<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions& options) const;

  /// Bytes that `ids` stand for; invalid UTF-8 is replaced by U+FFFD. Errors: kInvalidArgument for
  /// an id outside [0, vocab_size()).
  StatusOr<std::string> decode(const std::vector<TokenId>& ids, bool skip_special_tokens) const;

  /// The bytes of one token as they stand in running text (" the"), possibly part of a code point.
  /// Empty for an unknown id.
  const std::string& token_bytes(TokenId id) const;
  bool is_special(TokenId id) const;
  std::optional<TokenId> token_to_id(std::string_view token) const;
  /// The token as tokenizer.json spells it ("Ġthe"); empty for an unknown id.
  const std::string& token_spelling(TokenId id) const;
  int32_t vocab_size() const;  // largest id + 1, added tokens included
  /// For the detokenizer (text/token_table.h).
  const TokenTable& table() const;
  /// For the chat template.
  const mole_text_tokenizer* rust() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole::text
