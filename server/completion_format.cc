// The legacy completions API: text and flat lists of log-probabilities.
#include <map>

#include "base/utf8.h"
#include "server/format_base.h"
#include "server/json_writer.h"

namespace mole::server {
namespace {

class CompletionFormat final : public FormatBase {
 public:
  CompletionFormat(const ResponseIdentity& identity, const text::Tokenizer& tokenizer,
                   const GenerationParams& params, const std::vector<Prompt>& prompts)
      : FormatBase(identity, {"text_completion", "text_completion"}, tokenizer, params, prompts),
        offsets_(prompts.size() * static_cast<size_t>(params.n), 0),
        begun_(offsets_.size(), false) {}

  void append_opening(std::string*) override {}

  void append_delta(std::string* out, size_t choice_idx, const Delta& delta) override {
    begin_chunk();
    append_piece(&line_, choice_idx, delta, nullptr);
    end_chunk(out);
  }
  void append_finish(std::string* out, size_t choice_idx, const ChoiceResult& result) override {
    begin_chunk();
    append_choice(&line_, choice_idx, result);
    end_chunk(out);
  }

 private:
  void append_choice(std::string* out, size_t choice_idx, const ChoiceResult& choice) override {
    append_piece(out, choice_idx, choice.delta, &choice);
  }

  // `result` is null before the choice's end.
  void append_piece(std::string* out, size_t choice_idx, const Delta& delta,
                    const ChoiceResult* result) {
    const size_t prompt_idx = choice_idx / static_cast<size_t>(params_.n);
    const bool first = !begun_[choice_idx];
    begun_[choice_idx] = true;
    begin_choice(out, choice_idx);
    *out += ",\"text\":";
    if (first && params_.echo) {
      append_json_string(out, prompts_[prompt_idx].text + delta.text);
    } else {
      append_json_string(out, delta.text);
    }
    *out += ",\"logprobs\":";
    if (params_.sampling.logprobs >= 0) {
      const bool with_prompt = first && params_.echo;
      append_logprobs(out, choice_idx, with_prompt ? &prompt_tokens_[prompt_idx] : nullptr,
                      delta.tokens);
    } else {
      *out += "null";
    }
    if (result == nullptr) {
      *out += ",\"finish_reason\":null";
    } else {
      append_ending(out, *result);
    }
    if (first) append_prompt_ids(out, prompt_idx);
    append_output_ids(out, delta);
    if (!params_.echo) append_scored_prompt(out, prompt_idx);
    *out += '}';
  }

  // As OpenAI spells a token that is no text by itself, so that two of them stay two.
  std::string spelled(TokenId id) const {
    const std::string& bytes = tokenizer_.token_bytes(id);
    if (is_valid_utf8(bytes)) return bytes;
    constexpr char kHex[] = "0123456789abcdef";
    std::string escaped = "bytes:";
    for (char c : bytes) {
      escaped += "\\x";
      escaped += kHex[static_cast<unsigned char>(c) >> 4];
      escaped += kHex[static_cast<unsigned char>(c) & 15];
    }
    return escaped;
  }

  void append_logprobs(std::string* out, size_t choice_idx, const std::vector<TokenRecord>* prompt,
                       const std::vector<TokenRecord>& tokens) {
    std::vector<const TokenRecord*> all;
    if (prompt != nullptr) {
      for (const auto& token : *prompt) all.push_back(&token);
    }
    for (const auto& token : tokens) all.push_back(&token);
    std::string texts, logprobs, tops, offsets;
    for (const TokenRecord* token : all) {
      for (std::string* list : {&texts, &logprobs, &tops, &offsets}) {
        if (!list->empty()) *list += ',';
      }
      append_json_string(&texts, spelled(token->id));
      append_int(&offsets, offsets_[choice_idx]);
      const bool hidden = params_.skip_special_tokens && tokenizer_.is_special(token->id);
      if (!hidden) offsets_[choice_idx] += count_code_points(tokenizer_.token_bytes(token->id));
      if (token->has_logprobs) {
        append_logprob(&logprobs, token->logprobs.logprob);
        append_top(&tops, *token);
      } else {
        logprobs += "null";
        tops += "null";
      }
    }
    *out += "{\"tokens\":[" + texts + "],\"token_logprobs\":[" + logprobs + "],\"top_logprobs\":[" +
            tops + "],\"text_offset\":[" + offsets + "]}";
  }

  // The largest ones and, always, the token itself. Two tokens of one spelling can't both be keys
  // of an object: the likelier stays.
  void append_top(std::string* out, const TokenRecord& token) const {
    std::map<std::string, float> by_text;
    for (const auto& [id, logprob] : token.logprobs.top) by_text.emplace(spelled(id), logprob);
    by_text.emplace(spelled(token.id), token.logprobs.logprob);
    char separator = '{';
    for (const auto& [text, logprob] : by_text) {
      *out += separator;
      separator = ',';
      append_json_string(out, text);
      *out += ':';
      append_logprob(out, logprob);
    }
    *out += '}';
  }

  std::vector<int64_t> offsets_;  // of each choice, in code points
  std::vector<bool> begun_;       // of each choice
};

}  // namespace

std::unique_ptr<ResponseFormat> make_completion_format(const ResponseIdentity& identity,
                                                       const text::Tokenizer& tokenizer,
                                                       const GenerationParams& params,
                                                       const std::vector<Prompt>& prompts) {
  return std::make_unique<CompletionFormat>(identity, tokenizer, params, prompts);
}

}  // namespace mole::server
