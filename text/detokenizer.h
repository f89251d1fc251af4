// Token ids of one stream to text, piece by piece: no piece ever splits a code point, and the
// pieces together equal Tokenizer::decode of all ids. Stop strings are found across token borders;
// text that may still become one is held back. Thread: one owner.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "text/tokenizer.h"

namespace mole::text {

class Detokenizer {
 public:
  Detokenizer(std::shared_ptr<const Tokenizer> tokenizer, bool skip_special_tokens);

  /// Text that `id` completed; may be empty, is always whole code points. An id without a token
  /// adds nothing. A run of byte-fallback tokens ("<0xE2>") is held back until it ends, since
  /// decode judges it as one; and a decoder that needs all tokens at once (CTC, the old BPE suffix
  /// form) gives its text in finish().
  std::string push(TokenId id);
  /// What is still held back, invalid bytes replaced by U+FFFD.
  std::string finish();

 private:
  std::string end_byte_run();
  std::string without_stripped_start(std::string text);

  std::shared_ptr<const Tokenizer> tokenizer_;
  bool skip_special_tokens_;
  std::string pending_;       // bytes of an unfinished code point or byte-fallback run
  bool at_start_ = true;      // no token was decoded yet
  uint32_t strip_left_;       // code points that may still be cut from the start of the text
  std::vector<TokenId> ids_;  // only for decoders that need all of them
};

/// Finds a stop string in a stream of text: the one that is complete first, and of those that end
/// together the longest. That depends on the text alone, never on how it was cut into pieces.
class StopMatcher {
 public:
  explicit StopMatcher(std::vector<std::string> stops, bool include_stop_in_output);

  struct Result {
    std::string text;      // may be sent now
    bool stopped = false;  // a stop string was found; nothing may follow
    std::string stop;      // which one
  };
  /// `text`: whole code points. After a stop every push gives the same empty, stopped result.
  Result push(std::string_view text);
  /// Text held back when the stream ended without a stop.
  std::string finish();

 private:
  struct Stop {
    std::string text;
    std::vector<size_t>
        fallback;        // [i]: the longest shorter prefix that the first i + 1 bytes end in
    size_t matched = 0;  // bytes of `text` that the stream ends in
  };
  static void advance(Stop& stop, char next);

  std::vector<Stop> stops_;  // empty strings are left out
  bool include_stop_in_output_;
  std::string held_;
  std::string found_;  // the stop string, once there is one
};

}  // namespace mole::text
