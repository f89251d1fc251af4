// The chat completions API: messages, deltas, and log-probabilities as lists of objects.
#include "server/format_base.h"
#include "server/json_writer.h"

namespace mole::server {
namespace {

class ChatFormat final : public FormatBase {
 public:
  ChatFormat(const ResponseIdentity& identity, const text::Tokenizer& tokenizer,
             const GenerationParams& params, const std::vector<Prompt>& prompts)
      : FormatBase(identity, {"chat.completion", "chat.completion.chunk"}, tokenizer, params,
                   prompts) {}

  void append_opening(std::string* out) override {
    for (int32_t index = 0; index < params_.n; ++index) {
      begin_delta(static_cast<size_t>(index));
      line_ += "{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null";
      line_ += ",\"finish_reason\":null";
      append_prompt_ids(&line_, 0);
      end_delta(out);
    }
  }

  void append_delta(std::string* out, size_t choice_idx, const Delta& delta) override {
    begin_delta(choice_idx);
    line_ += "{\"content\":";
    append_json_string(&line_, delta.text);
    line_ += "},\"logprobs\":";
    append_logprobs(&line_, delta.tokens);
    line_ += ",\"finish_reason\":null";
    append_output_ids(&line_, delta);
    end_delta(out);
  }

  void append_finish(std::string* out, size_t choice_idx, const ChoiceResult& result) override {
    const bool tokens_wanted = params_.sampling.logprobs >= 0 || params_.return_token_ids;
    if (!result.delta.text.empty() || (tokens_wanted && !result.delta.tokens.empty())) {
      append_delta(out, choice_idx, result.delta);
    }
    begin_delta(choice_idx);
    line_ += "{},\"logprobs\":null";
    append_ending(&line_, result);
    end_delta(out);
  }

 private:
  void append_choice(std::string* out, size_t choice_idx, const ChoiceResult& choice) override {
    begin_choice(out, choice_idx);
    *out += ",\"message\":{\"role\":\"assistant\",\"content\":";
    append_json_string(out, choice.delta.text);
    *out += ",\"refusal\":null},\"logprobs\":";
    append_logprobs(out, choice.delta.tokens);
    append_ending(out, choice);
    append_output_ids(out, choice.delta);
    *out += '}';
  }

  void append_tail(std::string* body) const override {
    append_prompt_ids(body, 0);
    append_scored_prompt(body, 0);
  }

  void begin_delta(size_t choice_idx) {
    begin_chunk();
    begin_choice(&line_, choice_idx);
    line_ += ",\"delta\":";
  }
  void end_delta(std::string* out) {
    line_ += '}';
    end_chunk(out);
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
};

}  // namespace

std::unique_ptr<ResponseFormat> make_chat_format(const ResponseIdentity& identity,
                                                 const text::Tokenizer& tokenizer,
                                                 const GenerationParams& params,
                                                 const std::vector<Prompt>& prompts) {
  return std::make_unique<ChatFormat>(identity, tokenizer, params, prompts);
}

}  // namespace mole::server
