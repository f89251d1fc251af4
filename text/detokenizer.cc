#include "text/detokenizer.h"

#include <utility>

#include "base/utf8.h"
#include "text/token_table.h"
#include "text/utf8_stream.h"

namespace mole::text {

Detokenizer::Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens)
    : tokenizer_(std::move(tokenizer)),
      skip_special_tokens_(skip_special_tokens),
      strip_left_(tokenizer_->table().strip_count) {}

std::string Detokenizer::push(TokenId id) {
  const TokenTable& table = tokenizer_->table();
  if (id < 0 || static_cast<size_t>(id) >= table.tokens.size()) return "";
  const TokenTable::Token& token = table.tokens[static_cast<size_t>(id)];
  if (!token.known || (skip_special_tokens_ && token.special)) return "";
  if (table.join == MOLE_TEXT_JOIN_WHOLE) {
    ids_.push_back(id);
    return "";
  }
  const std::string& text = at_start_ ? token.text_at_start : token.text;
  at_start_ = false;
  if (table.join == MOLE_TEXT_JOIN_BYTES) {
    pending_ += text;
    return without_stripped_start(take_code_points(pending_));
  }
  if (token.is_byte) {
    pending_ += text;
    return "";
  }
  return without_stripped_start(end_byte_run() + text);
}

std::string Detokenizer::finish() {
  const TokenTable& table = tokenizer_->table();
  if (table.join == MOLE_TEXT_JOIN_WHOLE) {
    // The ids are known tokens; a decoder that still fails has no text for them.
    return tokenizer_->decode(std::exchange(ids_, {}), skip_special_tokens_).value_or("");
  }
  return without_stripped_start(table.join == MOLE_TEXT_JOIN_BYTES ? take_all(pending_)
                                                                   : end_byte_run());
}

/// The byte-fallback rule of the Hugging Face decoder: a run that is not UTF-8 as a whole becomes
/// one U+FFFD for each of its bytes, even where some of them make a code point.
std::string Detokenizer::end_byte_run() {
  std::string run = std::exchange(pending_, {});
  if (is_valid_utf8(run)) return run;
  std::string text;
  for (size_t i = 0; i < run.size(); ++i) text += kReplacement;
  return text;
}

std::string Detokenizer::without_stripped_start(std::string text) {
  if (strip_left_ == 0 || text.empty()) return text;
  const std::string& strip = tokenizer_->table().strip;
  size_t cut = 0;
  while (strip_left_ > 0 && text.compare(cut, strip.size(), strip) == 0) {
    cut += strip.size();
    --strip_left_;
  }
  if (cut < text.size()) strip_left_ = 0;
  return text.substr(cut);
}

}  // namespace mole::text
