#include "server/format_base.h"

#include "server/json_writer.h"
#include "server/sse.h"

namespace mole::server {
namespace {

/// {"id":…,"object":…,"created":…,"model":… without the closing brace.
std::string prefix_of(const ResponseIdentity& identity, const char* object) {
  std::string prefix = "{\"id\":";
  append_json_string(&prefix, identity.id);
  prefix += ",\"object\":\"";
  prefix += object;
  prefix += "\",\"created\":";
  append_int(&prefix, identity.created);
  prefix += ",\"model\":";
  append_json_string(&prefix, identity.model);
  return prefix;
}

void append_usage_object(std::string* out, const UsageTotals& usage) {
  *out += "{\"prompt_tokens\":";
  append_int(out, usage.prompt_tokens);
  *out += ",\"completion_tokens\":";
  append_int(out, usage.completion_tokens);
  *out += ",\"total_tokens\":";
  append_int(out, usage.prompt_tokens + usage.completion_tokens);
  *out += ",\"prompt_tokens_details\":{\"cached_tokens\":";
  append_int(out, usage.cached_tokens);
  *out += "},\"completion_tokens_details\":{\"reasoning_tokens\":0}}";
}

void append_stop_reason(std::string* out, const StopReason& reason) {
  if (const auto* text = std::get_if<std::string>(&reason)) {
    append_json_string(out, *text);
  } else if (const auto* id = std::get_if<TokenId>(&reason)) {
    append_int(out, *id);
  } else {
    *out += "null";
  }
}

void append_prompt_entry(std::string* out, const text::Tokenizer& tokenizer, TokenId id,
                         float logprob, size_t rank) {
  *out += '"';
  append_int(out, id);
  *out += "\":{\"logprob\":";
  append_logprob(out, logprob);
  *out += ",\"rank\":";
  if (rank > 0) {
    append_int(out, static_cast<int64_t>(rank));
  } else {
    *out += "null";  // beyond the largest ones that were asked for
  }
  *out += ",\"decoded_token\":";
  append_json_string(out, token_text(tokenizer, id));
  *out += '}';
}

/// {"<id>": {"logprob", "rank", "decoded_token"}, …}: the largest ones, and always the token
/// itself.
void append_scored_token(std::string* out, const text::Tokenizer& tokenizer,
                         const TokenRecord& token) {
  *out += '{';
  bool chosen_listed = false;
  for (size_t rank = 0; rank < token.logprobs.top.size(); ++rank) {
    const auto& [id, logprob] = token.logprobs.top[rank];
    if (rank > 0) *out += ',';
    append_prompt_entry(out, tokenizer, id, logprob, rank + 1);
    chosen_listed |= id == token.id;
  }
  if (!chosen_listed) {
    if (!token.logprobs.top.empty()) *out += ',';
    append_prompt_entry(out, tokenizer, token.id, token.logprobs.logprob, 0);
  }
  *out += '}';
}

}  // namespace

FormatBase::FormatBase(const ResponseIdentity& identity, const ObjectNames& names,
                       const text::Tokenizer& tokenizer, const GenerationParams& params,
                       const std::vector<Prompt>& prompts)
    : tokenizer_(tokenizer),
      params_(params),
      prompts_(prompts),
      prompt_tokens_(prompts.size()),
      whole_prefix_(prefix_of(identity, names.whole)),
      chunk_prefix_(prefix_of(identity, names.chunk)) {}

void FormatBase::add_prompt_token(size_t prompt_idx, TokenRecord record) {
  prompt_tokens_[prompt_idx].push_back(std::move(record));
}

void FormatBase::append_usage(std::string* out, const UsageTotals& usage) {
  line_ = chunk_prefix_;
  line_ += ",\"choices\":[],\"usage\":";
  append_usage_object(&line_, usage);
  line_ += '}';
  append_event(out, line_);
}

std::string FormatBase::whole(const std::vector<ChoiceResult>& choices, const UsageTotals& usage) {
  std::string body = whole_prefix_ + ",\"choices\":[";
  for (size_t i = 0; i < choices.size(); ++i) {
    if (i > 0) body += ',';
    append_choice(&body, i, choices[i]);
  }
  body += "],\"usage\":";
  append_usage_object(&body, usage);
  append_tail(&body);
  body += '}';
  return body;
}

void FormatBase::begin_chunk() {
  line_ = chunk_prefix_;
  line_ += ",\"choices\":[";
}

void FormatBase::end_chunk(std::string* out) {
  line_ += params_.include_usage ? "],\"usage\":null}" : "]}";
  append_event(out, line_);
}

void FormatBase::begin_choice(std::string* out, size_t choice_idx) {
  *out += "{\"index\":";
  append_int(out, static_cast<int64_t>(choice_idx));
}

void FormatBase::append_ending(std::string* out, const ChoiceResult& choice) {
  *out += ",\"finish_reason\":";
  append_json_string(out, choice.finish_reason);
  *out += ",\"stop_reason\":";
  append_stop_reason(out, choice.stop_reason);
}

void FormatBase::append_prompt_ids(std::string* out, size_t prompt_idx) const {
  if (!params_.return_token_ids) return;
  *out += ",\"prompt_token_ids\":";
  append_ids(out, prompts_[prompt_idx].ids);
}

void FormatBase::append_output_ids(std::string* out, const Delta& delta) const {
  if (!params_.return_token_ids) return;
  *out += ",\"token_ids\":[";
  for (size_t i = 0; i < delta.tokens.size(); ++i) {
    if (i > 0) *out += ',';
    append_int(out, delta.tokens[i].id);
  }
  *out += ']';
}

// vLLM's prompt_logprobs: [null, {…}, …].
void FormatBase::append_scored_prompt(std::string* out, size_t prompt_idx) const {
  if (params_.sampling.prompt_logprobs < 0) return;
  *out += ",\"prompt_logprobs\":[";
  const std::vector<TokenRecord>& tokens = prompt_tokens_[prompt_idx];
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) *out += ',';
    if (tokens[i].has_logprobs) {
      append_scored_token(out, tokenizer_, tokens[i]);
    } else {
      *out += "null";
    }
  }
  *out += ']';
}

}  // namespace mole::server
