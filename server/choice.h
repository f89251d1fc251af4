// One choice of an answer: tokens in, text out that is safe to send (whole code points, nothing
// that may still become a stop string), together with the tokens it came from. Thread: the
// session's strand.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "runtime/output_stream.h"
#include "server/generation_params.h"
#include "text/detokenizer.h"

namespace mole::server {

struct TokenRecord {
  TokenId id = 0;
  bool has_logprobs = false;
  runtime::TokenLogprobs logprobs;
};

/// What can be sent: text, and the tokens read since the last piece.
struct Delta {
  std::string text;
  std::vector<TokenRecord> tokens;
};

/// Why a choice ended: vLLM's stop_reason, a stop string or a stop token's id.
using StopReason = std::variant<std::monostate, std::string, TokenId>;

class Choice {
 public:
  /// The output continues the text of `token_before`, if there is one.
  Choice(const std::shared_ptr<const text::Tokenizer>& tokenizer, const GenerationParams& params,
         std::optional<TokenId> token_before);

  /// A generated token. True if it completed a stop string: the choice is then finished.
  bool push(runtime::StreamEvent event);
  /// The engine's end of the sequence; does nothing after a stop string.
  void finish(runtime::FinishReason reason, TokenId stop_token, int32_t completion_tokens);

  bool finished() const { return !finish_reason_.empty(); }
  /// "stop" or "length"; empty before the end.
  const std::string& finish_reason() const { return finish_reason_; }
  const StopReason& stop_reason() const { return stop_reason_; }
  int32_t completion_tokens() const { return completion_tokens_; }

  /// There is text to send.
  bool has_text() const { return !delta_.text.empty(); }
  Delta take() { return std::exchange(delta_, {}); }

 private:
  bool push_text(const std::string& text);

  const GenerationParams& params_;
  text::Detokenizer detokenizer_;
  text::StopMatcher stop_matcher_;
  Delta delta_;
  std::string finish_reason_;
  StopReason stop_reason_;
  int32_t completion_tokens_ = 0;
};

}  // namespace mole::server
