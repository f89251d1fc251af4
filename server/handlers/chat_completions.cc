// POST /v1/chat/completions
#include "server/chat_request.h"
#include "server/handlers/handlers.h"

namespace mole::server {
namespace {

JsonWork prepare(const Json& body, const ServedModel& model, const ServerLimits& limits) {
  auto read = read_chat_request(body, model, limits);
  if (auto* error = std::get_if<ApiError>(&read)) return std::move(*error);
  auto& request = std::get<ChatRequest>(read);
  GenerationSpec spec;
  spec.chat = true;
  spec.params = std::move(request.params);
  spec.prompts.push_back(std::move(request.prompt));
  return spec;
}

}  // namespace

void handle_chat_completions(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink) {
  run_json_handler(app, std::move(request), std::move(sink), prepare);
}

}  // namespace mole::server
