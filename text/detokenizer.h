// Token ids of one stream to text, piece by piece: no piece ever splits a code point, and the pieces
// together equal Tokenizer::decode of all ids. Stop strings are found across token borders; text that
// may still become one is held back. Thread: one owner.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "text/tokenizer.h"

namespace mole::text {

class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens);

  /// Text that `id` completed; may be empty, is always whole code points.
  std::string push(TokenId id);
  /// What is still held back, invalid bytes replaced by U+FFFD.
  std::string finish();

 private:
  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;  // bytes of an unfinished code point
  bool at_start_ = true;
};

/// Finds the first of several stop strings in a stream of text.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops, bool include_stop_in_output);

  struct Result {
    std::string text;      // may be sent now
    bool stopped = false;  // a stop string was found; nothing may follow
    std::string stop;      // which one
  };
  Result push(std::string_view text);
  /// Text held back when the stream ended without a stop.
  std::string finish();

 private:
  std::vector<std::string> stops_;
  bool include_stop_in_output_;
  std::string held_;
};

}  // namespace mole::text
