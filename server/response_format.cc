#include "server/response_format.h"

#include "server/json_writer.h"

namespace mole::server {

std::string response_prefix(const ResponseIdentity& identity, const char* object) {
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

std::string token_text(const text::Tokenizer& tokenizer, TokenId id) {
  return replace_invalid_utf8(tokenizer.token_bytes(id));
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

void append_ids(std::string* out, const std::vector<TokenId>& ids) {
  *out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) *out += ',';
    append_int(out, ids[i]);
  }
  *out += ']';
}

void append_token_ids(std::string* out, const std::vector<TokenRecord>& tokens) {
  *out += '[';
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) *out += ',';
    append_int(out, tokens[i].id);
  }
  *out += ']';
}

namespace {

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

}  // namespace

void append_prompt_logprobs(std::string* out, const text::Tokenizer& tokenizer,
                            const std::vector<TokenRecord>& tokens) {
  *out += '[';
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenRecord& token = tokens[i];
    if (i > 0) *out += ',';
    if (!token.has_logprobs) {
      *out += "null";
      continue;
    }
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
  *out += ']';
}

}  // namespace mole::server
