// One function an endpoint. Thread: the session's strand; what takes long goes to the app's pool.
#pragma once

#include <functional>
#include <memory>
#include <variant>

#include "server/app.h"
#include "server/generation.h"
#include "server/http_exchange.h"

namespace mole::server {

void handle_chat_completions(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_completions(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_detokenize(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_health(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_livez(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_metrics(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_model(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_models(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_readyz(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);
void handle_tokenize(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);

// ---- what the endpoints with a JSON body share

/// Why a POST can't be served: not ready, or not JSON by its content type.
std::optional<ApiError> check_post(const App& app, const HttpRequest& request);

/// What is made of a JSON body on a worker: a whole answer, or a generation to run.
using JsonWork = std::variant<HttpResponse, GenerationSpec, ApiError>;
using JsonHandler = JsonWork (*)(const Json& body, const ServedModel& model,
                                 const ServerLimits& limits);

/// Checks the request, parses its body on a worker, runs `handler` there, and answers.
void run_json_handler(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink,
                      JsonHandler handler);

}  // namespace mole::server
