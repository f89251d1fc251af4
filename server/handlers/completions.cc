// POST /v1/completions
#include "server/completion_request.h"
#include "server/handlers/handlers.h"

namespace mole::server {
namespace {

JsonWork prepare(const Json& body, const ServedModel& model, const ServerLimits& limits) {
  auto read = read_completion_request(body, model, limits);
  if (auto* error = std::get_if<ApiError>(&read)) return std::move(*error);
  auto& request = std::get<CompletionRequest>(read);
  GenerationSpec spec;
  spec.params = std::move(request.params);
  spec.prompts = std::move(request.prompts);
  return spec;
}

}  // namespace

void handle_completions(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink) {
  run_json_handler(app, std::move(request), std::move(sink), prepare);
}

}  // namespace mole::server
