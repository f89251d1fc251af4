// The chat completions API: messages, deltas, and log-probabilities as lists of objects.
#include "server/json_writer.h"
#include "server/response_format.h"
#include "server/sse.h"

namespace mole::server {
namespace {

class ChatFormat final : public ResponseFormat {
 public:
  ChatFormat(const ResponseIdentity& identity, const text::Tokenizer& tokenizer,
             const GenerationParams& params, const std::vector<Prompt>& prompts)
      : identity_(identity),
        prefix_(response_prefix(identity, "chat.completion.chunk")),
        tokenizer_(tokenizer),
        params_(params),
        prompts_(prompts) {}

  void add_prompt_token(size_t, TokenRecord record) override {
    prompt_tokens_.push_back(std::move(record));
  }

  void append_opening(std::string* out) override {
    for (int32_t index = 0; index < params_.n; ++index) {
      begin_chunk(static_cast<size_t>(index));
      line_ += "{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null";
      line_ += ",\"finish_reason\":null";
      if (params_.return_token_ids) {
        line_ += ",\"prompt_token_ids\":";
        append_ids(&line_, prompts_.front().ids);
      }
      end_chunk(out);
    }
  }

  void append_delta(std::string* out, size_t choice_idx, const Delta& delta) override {
    begin_chunk(choice_idx);
    line_ += "{\"content\":";
    append_json_string(&line_, delta.text);
    line_ += "},\"logprobs\":";
    append_logprobs(&line_, delta.tokens);
    line_ += ",\"finish_reason\":null";
    if (params_.return_token_ids) {
      line_ += ",\"token_ids\":";
      append_token_ids(&line_, delta.tokens);
    }
    end_chunk(out);
  }

  void append_finish(std::string* out, size_t choice_idx, const ChoiceResult& result) override {
    const bool tokens_wanted = params_.sampling.logprobs >= 0 || params_.return_token_ids;
    if (!result.delta.text.empty() || (tokens_wanted && !result.delta.tokens.empty())) {
      append_delta(out, choice_idx, result.delta);
    }
    begin_chunk(choice_idx);
    line_ += "{},\"logprobs\":null,\"finish_reason\":";
    append_json_string(&line_, result.finish_reason);
    line_ += ",\"stop_reason\":";
    append_stop_reason(&line_, result.stop_reason);
    end_chunk(out);
  }

  void append_usage(std::string* out, const UsageTotals& usage) override {
    line_ = prefix_;
    line_ += ",\"choices\":[],\"usage\":";
    append_usage_object(&line_, usage);
    line_ += '}';
    append_event(out, line_);
  }

  std::string whole(const std::vector<ChoiceResult>& choices, const UsageTotals& usage) override {
    std::string body = response_prefix(identity_, "chat.completion") + ",\"choices\":[";
    for (size_t i = 0; i < choices.size(); ++i) {
      const ChoiceResult& choice = choices[i];
      body += i == 0 ? "{\"index\":" : ",{\"index\":";
      append_int(&body, static_cast<int64_t>(i));
      body += ",\"message\":{\"role\":\"assistant\",\"content\":";
      append_json_string(&body, choice.delta.text);
      body += ",\"refusal\":null},\"logprobs\":";
      append_logprobs(&body, choice.delta.tokens);
      body += ",\"finish_reason\":";
      append_json_string(&body, choice.finish_reason);
      body += ",\"stop_reason\":";
      append_stop_reason(&body, choice.stop_reason);
      if (params_.return_token_ids) {
        body += ",\"token_ids\":";
        append_token_ids(&body, choice.delta.tokens);
      }
      body += '}';
    }
    body += "],\"usage\":";
    append_usage_object(&body, usage);
    append_prompt_fields(&body);
    body += '}';
    return body;
  }

 private:
  void append_prompt_fields(std::string* body) const {
    if (params_.return_token_ids) {
      *body += ",\"prompt_token_ids\":";
      append_ids(body, prompts_.front().ids);
    }
    if (params_.sampling.prompt_logprobs >= 0) {
      *body += ",\"prompt_logprobs\":";
      append_prompt_logprobs(body, tokenizer_, prompt_tokens_);
    }
  }

  void begin_chunk(size_t choice_idx) {
    line_ = prefix_;
    line_ += ",\"choices\":[{\"index\":";
    append_int(&line_, static_cast<int64_t>(choice_idx));
    line_ += ",\"delta\":";
  }
  void end_chunk(std::string* out) {
    line_ += params_.include_usage ? "}],\"usage\":null}" : "}]}";
    append_event(out, line_);
  }

  void append_token(std::string* out, TokenId id, float logprob) const {
    *out += "{\"token\":";
    append_json_string(out, token_text(tokenizer_, id));
    *out += ",\"logprob\":";
    append_logprob(out, logprob);
    *out += ",\"bytes\":";
    append_byte_array(out, tokenizer_.token_bytes(id));
  }

  void append_logprobs(std::string* out, const std::vector<TokenRecord>& tokens) const {
    if (params_.sampling.logprobs < 0) {
      *out += "null";
      return;
    }
    *out += "{\"content\":[";
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (i > 0) *out += ',';
      append_token(out, tokens[i].id, tokens[i].logprobs.logprob);
      *out += ",\"top_logprobs\":[";
      const auto& top = tokens[i].logprobs.top;
      for (size_t rank = 0; rank < top.size(); ++rank) {
        if (rank > 0) *out += ',';
        append_token(out, top[rank].first, top[rank].second);
        *out += '}';
      }
      *out += "]}";
    }
    *out += "],\"refusal\":null}";
  }

  const ResponseIdentity identity_;
  const std::string prefix_;
  const text::Tokenizer& tokenizer_;
  const GenerationParams& params_;
  const std::vector<Prompt>& prompts_;
  std::vector<TokenRecord> prompt_tokens_;
  std::string line_;  // reused from event to event
};

}  // namespace

std::unique_ptr<ResponseFormat> make_chat_format(const ResponseIdentity& identity,
                                                 const text::Tokenizer& tokenizer,
                                                 const GenerationParams& params,
                                                 const std::vector<Prompt>& prompts) {
  return std::make_unique<ChatFormat>(identity, tokenizer, params, prompts);
}

}  // namespace mole::server
