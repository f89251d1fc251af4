// What the answers of both APIs have in common: who answers, the frame of a chunk and of a whole
// body, the usage, the scored prompts. Thread: the session's strand.
#pragma once

#include <string>
#include <vector>

#include "server/response_format.h"

namespace mole::server {

class FormatBase : public ResponseFormat {
 public:
  void add_prompt_token(size_t prompt_idx, TokenRecord record) override;
  void append_usage(std::string* out, const UsageTotals& usage) override;
  std::string whole(const std::vector<ChoiceResult>& choices, const UsageTotals& usage) override;

 protected:
  /// What "object" says: in a whole answer, and in the chunks of a stream.
  struct ObjectNames {
    const char* whole;
    const char* chunk;
  };
  FormatBase(const ResponseIdentity& identity, const ObjectNames& names,
             const text::Tokenizer& tokenizer, const GenerationParams& params,
             const std::vector<Prompt>& prompts);

  /// One object of "choices" in a whole answer.
  virtual void append_choice(std::string* out, size_t choice_idx, const ChoiceResult& choice) = 0;
  /// Fields of a whole answer after the usage, each with a comma before it.
  virtual void append_tail(std::string*) const {}

  /// Begins an event in line_, up to its only choice; end_chunk() appends it to `out`.
  void begin_chunk();
  void end_chunk(std::string* out);

  /// {"index":…
  static void begin_choice(std::string* out, size_t choice_idx);
  // Fields with a comma before them. The last three append nothing where they weren't asked for.
  static void append_ending(std::string* out, const ChoiceResult& choice);
  void append_prompt_ids(std::string* out, size_t prompt_idx) const;
  void append_output_ids(std::string* out, const Delta& delta) const;
  void append_scored_prompt(std::string* out, size_t prompt_idx) const;

  const text::Tokenizer& tokenizer_;
  const GenerationParams& params_;
  const std::vector<Prompt>& prompts_;
  std::vector<std::vector<TokenRecord>> prompt_tokens_;  // of each prompt
  std::string line_;                                     // reused from event to event

 private:
  const std::string whole_prefix_;
  const std::string chunk_prefix_;
};

}  // namespace mole::server
