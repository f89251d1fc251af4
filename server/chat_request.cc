#include "server/chat_request.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "base/limit_error.h"

namespace mole::server {
namespace {

constexpr std::array<std::string_view, 6> kRoles = {"system",    "developer", "user",
                                                    "assistant", "tool",      "function"};

/// Strings of ours are UTF-8 already (parse_json); `replace` only keeps dump() from throwing.
std::string json_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// One text of a message: a string, null, or an array of text parts (joined by line breaks, as vLLM
/// does). Nullopt after an error.
std::optional<Json> read_content(FieldReader& fields, const Json& content,
                                 const std::string& where) {
  if (content.is_null() || content.is_string()) return content;
  if (!content.is_array()) {
    fields.fail("messages", where + ".content is " + describe_type(content) +
                                "; accepted: a string, null, or an array of text parts");
    return std::nullopt;
  }
  std::string joined;
  bool first = true;
  for (const Json& part : content) {
    if (!part.is_object() || part.value("type", Json()) != "text" || !part.contains("text") ||
        !part["text"].is_string()) {
      fields.fail("messages",
                  where + R"(.content: accepted parts are {"type": "text", "text": string})");
      return std::nullopt;
    }
    if (!first) joined += '\n';
    first = false;
    joined += part["text"].get_ref<const std::string&>();
  }
  return Json(joined);
}

/// `messages` checked and normalized; empty after an error.
Json read_messages(FieldReader& fields, const ServerLimits& limits) {
  const Json* messages = fields.find("messages");
  if (messages == nullptr || !messages->is_array() || messages->empty()) {
    fields.fail("messages", std::string(messages == nullptr ? "is missing" : "is wrong") +
                                "; accepted: an array of at least one message");
    return Json::array();
  }
  if (static_cast<int64_t>(messages->size()) > limits.messages_max) {
    fields.fail_past("messages", "has " + std::to_string(messages->size()) + " entries",
                     limits.messages_max, "messages-max");
    return Json::array();
  }
  Json normalized = Json::array();
  for (const Json& message : *messages) {
    const std::string where = "[" + std::to_string(normalized.size()) + "]";
    if (!message.is_object() || !message.contains("role") || !message["role"].is_string() ||
        std::find(kRoles.begin(), kRoles.end(), message["role"].get<std::string>()) ==
            kRoles.end()) {
      fields.fail("messages", where +
                                  " has no valid role; accepted: system, developer, user, "
                                  "assistant, tool, function");
      return Json::array();
    }
    const auto content = read_content(fields, message.value("content", Json()), where);
    if (!content.has_value()) return Json::array();
    if (content->is_null() && message["role"] != "assistant") {
      fields.fail("messages", where + ".content is null; only an assistant's may be");
      return Json::array();
    }
    Json copy = message;
    copy["content"] = *content;
    normalized.push_back(std::move(copy));
  }
  return normalized;
}

void read_chat_fields(FieldReader& fields, const ServerLimits& limits, ChatRequest* request) {
  constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
  for (const char* key : {"max_tokens", "max_completion_tokens"}) {  // the newer name wins
    if (fields.find(key) != nullptr)
      request->params.max_tokens = fields.integer(key, 1, 1, kInt32Max);
  }
  request->logprobs = fields.boolean("logprobs", false);
  const auto top = fields.integer("top_logprobs", 0, 0, limits.logprobs_max);
  if (fields.find("top_logprobs") != nullptr && !request->logprobs) {
    fields.fail("top_logprobs", "is only accepted with logprobs: true");
  }
  if (request->logprobs) request->params.sampling.logprobs = static_cast<int32_t>(top);
  request->params.add_special_tokens = fields.boolean("add_special_tokens", false);
  if (const Json* format = fields.find("response_format")) {
    if (!format->is_object() || format->value("type", Json()) != "text") {
      fields.fail("response_format", R"(is not supported; accepted: {"type": "text"})");
    }
  }
  if (const Json* choice = fields.find("tool_choice");
      choice != nullptr && *choice != "none" && *choice != "auto") {
    fields.fail("tool_choice", "is not supported; accepted: \"none\" or \"auto\"");
  }
  if (const Json* modalities = fields.find("modalities")) {
    if (*modalities != Json::array({"text"})) {
      fields.fail("modalities", R"(is not supported; accepted: ["text"])");
    }
  }
  reject_unsupported(fields, {"tools", "functions", "function_call", "audio", "chat_template",
                              "use_beam_search", "echo", "continue_final_message"});
}

}  // namespace

std::variant<std::vector<TokenId>, ApiError> encode_chat(FieldReader& fields,
                                                         const ServedModel& model,
                                                         const ServerLimits& limits,
                                                         bool add_special_tokens) {
  Json messages = read_messages(fields, limits);
  const bool add_generation_prompt = fields.boolean("add_generation_prompt", true);
  const Json* kwargs = fields.find("chat_template_kwargs");
  if (kwargs != nullptr && !kwargs->is_object()) {
    fields.fail("chat_template_kwargs", "is " + describe_type(*kwargs) + "; accepted: an object");
  }
  if (fields.failed()) return *fields.error();
  const std::string messages_text = json_text(messages);
  const std::string kwargs_text = kwargs == nullptr ? "null" : json_text(*kwargs);
  const text::TemplateLimits template_limits{
      .fuel = static_cast<uint64_t>(limits.template_fuel),
      .output_bytes_max = static_cast<size_t>(2 * limits.body_bytes_max)};
  auto prompt = model.chat_template->encode(*model.tokenizer,
                                            {.messages = messages_text,
                                             .kwargs = kwargs_text,
                                             .add_generation_prompt = add_generation_prompt,
                                             .add_special_tokens = add_special_tokens},
                                            template_limits);
  if (!prompt.ok()) {
    ApiError error = invalid_field("messages", std::string(prompt.status().message()));
    if (passed_limit(prompt.status()) == "fuel") error.limit = "template-fuel";
    return error;
  }
  if (prompt->ids.empty()) {
    return invalid_field("messages", "give no token; accepted: at least one");
  }
  return std::move(prompt->ids);
}

std::variant<ChatRequest, ApiError> read_chat_request(const Json& body, const ServedModel& model,
                                                      const ServerLimits& limits) {
  FieldReader fields(body);
  ChatRequest request;
  if (auto error = read_common_fields(fields, model, limits, &request.params)) return *error;
  read_chat_fields(fields, limits, &request);
  if (fields.failed()) return *fields.error();
  auto ids = encode_chat(fields, model, limits, request.params.add_special_tokens);
  if (auto* error = std::get_if<ApiError>(&ids)) return std::move(*error);
  request.prompt.ids = std::move(std::get<std::vector<TokenId>>(ids));
  return request;
}

}  // namespace mole::server
