// The legacy completions API: text and flat lists of log-probabilities.
#include <map>

#include "base/utf8.h"

#include "server/json_writer.h"
#include "server/response_format.h"
#include "server/sse.h"

namespace mole::server {
namespace {

class CompletionFormat final : public ResponseFormat {
 public:
  CompletionFormat(const ResponseIdentity& identity, const text::Tokenizer& tokenizer,
                   const GenerationParams& params, const std::vector<Prompt>& prompts)
      : prefix_(response_prefix(identity, "text_completion")),
        tokenizer_(tokenizer),
        params_(params),
        prompts_(prompts),
        prompt_tokens_(prompts.size()),
        offsets_(prompts.size() * static_cast<size_t>(params.n), 0),
        begun_(offsets_.size(), false) {}

  void add_prompt_token(size_t prompt_idx, TokenRecord record) override {
    prompt_tokens_[prompt_idx].push_back(std::move(record));
  }
  void append_opening(std::string*) override {}

  void append_delta(std::string* out, size_t choice_idx, const Delta& delta) override {
    append_chunk(out, choice_idx, delta, nullptr);
  }
  void append_finish(std::string* out, size_t choice_idx, const ChoiceResult& result) override {
    append_chunk(out, choice_idx, result.delta, &result);
  }
  void append_usage(std::string* out, const UsageTotals& usage) override {
    line_ = prefix_;
    line_ += ",\"choices\":[],\"usage\":";
    append_usage_object(&line_, usage);
    line_ += '}';
    append_event(out, line_);
  }

  std::string whole(const std::vector<ChoiceResult>& choices, const UsageTotals& usage) override {
    std::string body = prefix_ + ",\"choices\":[";
    for (size_t i = 0; i < choices.size(); ++i) {
      if (i > 0) body += ',';
      append_choice(&body, i, choices[i].delta, &choices[i]);
    }
    body += "],\"usage\":";
    append_usage_object(&body, usage);
    body += '}';
    return body;
  }

 private:
  void append_chunk(std::string* out, size_t choice_idx, const Delta& delta,
                    const ChoiceResult* result) {
    line_ = prefix_;
    line_ += ",\"choices\":[";
    append_choice(&line_, choice_idx, delta, result);
    line_ += params_.include_usage ? "],\"usage\":null}" : "]}";
    append_event(out, line_);
  }

  // `result` is null before the choice's end.
  void append_choice(std::string* out, size_t choice_idx, const Delta& delta,
                     const ChoiceResult* result) {
    const size_t prompt_idx = choice_idx / static_cast<size_t>(params_.n);
    const bool first = !begun_[choice_idx];
    begun_[choice_idx] = true;
    *out += "{\"index\":";
    append_int(out, static_cast<int64_t>(choice_idx));
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
    *out += ",\"finish_reason\":";
    if (result == nullptr) {
      *out += "null";
    } else {
      append_json_string(out, result->finish_reason);
    }
    append_extensions(out, prompt_idx, first, delta, result);
    *out += '}';
  }

  void append_extensions(std::string* out, size_t prompt_idx, bool first, const Delta& delta,
                         const ChoiceResult* result) {
    if (result != nullptr) {
      *out += ",\"stop_reason\":";
      append_stop_reason(out, result->stop_reason);
    }
    if (params_.return_token_ids) {
      if (first) {
        *out += ",\"prompt_token_ids\":";
        append_ids(out, prompts_[prompt_idx].ids);
      }
      *out += ",\"token_ids\":";
      append_token_ids(out, delta.tokens);
    }
    if (params_.sampling.prompt_logprobs >= 0 && !params_.echo) {
      *out += ",\"prompt_logprobs\":";
      append_prompt_logprobs(out, tokenizer_, prompt_tokens_[prompt_idx]);
    }
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

  const std::string prefix_;
  const text::Tokenizer& tokenizer_;
  const GenerationParams& params_;
  const std::vector<Prompt>& prompts_;
  std::vector<std::vector<TokenRecord>> prompt_tokens_;  // of each prompt
  std::vector<int64_t> offsets_;                         // of each choice, in code points
  std::vector<bool> begun_;                              // of each choice
  std::string line_;                                     // reused from event to event
};

}  // namespace

std::unique_ptr<ResponseFormat> make_completion_format(const ResponseIdentity& identity,
                                                       const text::Tokenizer& tokenizer,
                                                       const GenerationParams& params,
                                                       const std::vector<Prompt>& prompts) {
  return std::make_unique<CompletionFormat>(identity, tokenizer, params, prompts);
}

}  // namespace mole::server
