// POST /tokenize and /detokenize, with vLLM's bodies.
#include "server/chat_request.h"
#include "server/handlers/handlers.h"
#include "server/json_writer.h"

namespace mole::server {
namespace {

std::variant<std::vector<TokenId>, ApiError> encode(FieldReader& fields, const ServedModel& model,
                                                    const ServerLimits& limits) {
  if (fields.find("messages") != nullptr) {
    const bool add_special_tokens = fields.boolean("add_special_tokens", false);
    return encode_chat(fields, model, limits, add_special_tokens);
  }
  const bool add_special_tokens = fields.boolean("add_special_tokens", true);
  if (fields.find("prompt") == nullptr) {
    fields.fail("prompt", "is missing; accepted: a string (or messages instead)");
  }
  const std::string prompt = fields.text("prompt", "", limits.body_bytes_max);
  if (fields.failed()) return *fields.error();
  auto ids = model.tokenizer->encode(
      prompt, {.add_special_tokens = add_special_tokens, .parse_special_tokens = true});
  if (!ids.ok()) return invalid_field("prompt", std::string(ids.status().message()));
  return std::move(*ids);
}

JsonWork tokenize(const Json& body, const ServedModel& model, const ServerLimits& limits) {
  FieldReader fields(body);
  if (auto error = check_model_name(fields, model)) return *error;
  const bool return_token_strs = fields.boolean("return_token_strs", false);
  if (fields.failed()) return *fields.error();
  auto encoded = encode(fields, model, limits);
  if (auto* error = std::get_if<ApiError>(&encoded)) return std::move(*error);
  const auto& ids = std::get<std::vector<TokenId>>(encoded);

  HttpResponse response;
  response.body = "{\"count\":";
  append_int(&response.body, static_cast<int64_t>(ids.size()));
  response.body += ",\"max_model_len\":";
  append_int(&response.body, model.engine->options().max_model_len);
  response.body += ",\"tokens\":";
  append_ids(&response.body, ids);
  response.body += ",\"token_strs\":";
  if (return_token_strs) {
    response.body += '[';
    for (size_t i = 0; i < ids.size(); ++i) {
      if (i > 0) response.body += ',';
      append_json_string(&response.body, model.tokenizer->token_spelling(ids[i]));
    }
    response.body += ']';
  } else {
    response.body += "null";
  }
  response.body += '}';
  return response;
}

JsonWork detokenize(const Json& body, const ServedModel& model, const ServerLimits& limits) {
  FieldReader fields(body);
  if (auto error = check_model_name(fields, model)) return *error;
  if (fields.find("tokens") == nullptr) {
    fields.fail("tokens", "is missing; accepted: an array of token ids");
  }
  const auto ids = fields.integers("tokens", 0, model.tokenizer->vocab_size() - 1,
                                   limits.json_nodes_max, "json-nodes-max");
  if (fields.failed()) return *fields.error();
  auto text = model.tokenizer->decode(ids, /*skip_special_tokens=*/false);
  if (!text.ok()) return invalid_field("tokens", std::string(text.status().message()));
  HttpResponse response;
  response.body = "{\"prompt\":";
  append_json_string(&response.body, *text);
  response.body += '}';
  return response;
}

}  // namespace

void handle_tokenize(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink) {
  run_json_handler(app, std::move(request), std::move(sink), tokenize);
}

void handle_detokenize(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink) {
  run_json_handler(app, std::move(request), std::move(sink), detokenize);
}

}  // namespace mole::server
