// What an answer looks like on the wire: one implementation for completions, one for chat, on the
// common ground of format_base.h. All of them append one-line JSON. Thread: the session's strand.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "server/choice.h"
#include "server/generation_params.h"

namespace mole::server {

/// Token counts of a whole request; the prompt counts once, whatever n is.
struct UsageTotals {
  int64_t prompt_tokens = 0;
  int64_t completion_tokens = 0;
  int64_t cached_tokens = 0;
};

/// A finished choice of an answer that is sent whole.
struct ChoiceResult {
  Delta delta;
  std::string finish_reason;
  StopReason stop_reason;
};

/// What is known of an answer before its first token; the same in all its chunks.
struct ResponseIdentity {
  std::string id;
  int64_t created = 0;  // Unix seconds
  std::string model;
};

class ResponseFormat {
 public:
  virtual ~ResponseFormat() = default;

  /// A prompt token's record, before any delta of that prompt's choices (echo, prompt_logprobs).
  virtual void add_prompt_token(size_t prompt_idx, TokenRecord record) = 0;

  /// Events that open a stream, one call for all choices.
  virtual void append_opening(std::string* out) = 0;
  virtual void append_delta(std::string* out, size_t choice_idx, const Delta& delta) = 0;
  /// The last events of a choice: `rest` is what was held back.
  virtual void append_finish(std::string* out, size_t choice_idx, const ChoiceResult& result) = 0;
  /// The event with the usage and no choices.
  virtual void append_usage(std::string* out, const UsageTotals& usage) = 0;

  /// The body of an answer that is sent whole.
  virtual std::string whole(const std::vector<ChoiceResult>& choices, const UsageTotals& usage) = 0;
};

/// `prompts` and `params` must outlive the format.
std::unique_ptr<ResponseFormat> make_completion_format(const ResponseIdentity& identity,
                                                       const text::Tokenizer& tokenizer,
                                                       const GenerationParams& params,
                                                       const std::vector<Prompt>& prompts);
std::unique_ptr<ResponseFormat> make_chat_format(const ResponseIdentity& identity,
                                                 const text::Tokenizer& tokenizer,
                                                 const GenerationParams& params,
                                                 const std::vector<Prompt>& prompts);

// ---- pieces of more than one answer

/// The token's text: special tokens by their spelling; bytes of half a code point as U+FFFD.
std::string token_text(const text::Tokenizer& tokenizer, TokenId id);
void append_ids(std::string* out, const std::vector<TokenId>& ids);

}  // namespace mole::server
