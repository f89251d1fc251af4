#include <exception>
#include <new>

#include "base/limit_error.h"
#include "base/log.h"
#include "server/handlers/handlers.h"

namespace mole::server {
namespace {

// "application/json", with or without parameters.
bool is_json(const std::string* content_type) {
  if (content_type == nullptr) return false;
  std::string type = to_lower(content_type->substr(0, content_type->find(';')));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  return type == "application/json";
}

// The setting behind a bound that parse_json() names.
std::string json_setting(const std::string& limit) {
  if (limit == "depth_max") return "json-depth-max";
  if (limit == "nodes_max") return "json-nodes-max";
  return limit == "object_keys_max" ? "json-object-keys-max" : "";
}

void count_limit(App& app, const ApiError& error) {
  if (error.limit.empty()) return;
  app.metrics()
      .counter("limit_refusals_total", "Requests refused because they pass a limit, by its setting",
               {{"limit", error.limit}})
      .add();
}

JsonWork work_on(const App& app, const ServedModel& model, const HttpRequest& request,
                 JsonHandler handler) {
  const ServerLimits& limits = app.limits();
  const JsonLimits json_limits{.depth_max = static_cast<size_t>(limits.json_depth_max),
                               .nodes_max = static_cast<size_t>(limits.json_nodes_max),
                               .object_keys_max = static_cast<size_t>(limits.json_object_keys_max)};
  const auto body = parse_json(request.body, json_limits);
  if (!body.ok()) {
    ApiError error = from_status(body.status());
    error.limit = json_setting(passed_limit(body.status()));
    return error;
  }
  return handler(*body, model, limits);
}

// On a worker: everything up to the engine's yes or no.
void answer(App& app, const std::shared_ptr<const ServedModel>& model, const HttpRequest& request,
            const std::shared_ptr<ResponseSink>& sink, JsonHandler handler) {
  JsonWork work = work_on(app, *model, request, handler);
  if (auto* spec = std::get_if<GenerationSpec>(&work)) {
    const auto generation = std::make_shared<Generation>(app, model, sink, std::move(*spec),
                                                         request.request_id, request.received_us);
    auto refused = generation->submit();
    if (!refused.has_value()) {
      sink->post([generation] { generation->start(); });
      return;
    }
    work = std::move(*refused);
  }
  auto* error = std::get_if<ApiError>(&work);
  if (error != nullptr) count_limit(app, *error);
  auto response = std::make_shared<HttpResponse>(
      error != nullptr ? to_response(*error) : std::move(std::get<HttpResponse>(work)));
  sink->post([sink, response] { sink->respond(std::move(*response)); });
}

}  // namespace

std::optional<ApiError> check_post(const App& app, const HttpRequest& request) {
  if (app.draining()) return unavailable("the server is shutting down");
  if (app.model() == nullptr) return unavailable("the model is still loading");
  if (!is_json(request.head.find("content-type"))) {
    ApiError error;
    error.status = 415;
    error.message = "the content type must be application/json";
    return error;
  }
  if (request.head.find("content-encoding") != nullptr) {
    ApiError error;
    error.status = 415;
    error.message = "a content encoding is not accepted";
    return error;
  }
  return std::nullopt;
}

void run_json_handler(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink,
                      JsonHandler handler) {
  if (const auto error = check_post(app, request)) {
    sink->respond(to_response(*error));
    return;
  }
  const auto shared = std::make_shared<HttpRequest>(std::move(request));
  const bool queued = app.try_run([&app, model = app.model(), shared, sink, handler] {
    try {
      answer(app, model, *shared, sink, handler);
    } catch (const std::bad_alloc&) {
      sink->post([sink] { sink->respond(to_response(unavailable("out of memory"))); });
    } catch (const std::exception& e) {
      log::error("a request failed", {{"request_id", shared->request_id}, {"error", e.what()}});
      sink->post([sink] { sink->respond(to_response(internal_error())); });
    }
  });
  if (queued) return;
  constexpr int64_t kRetryMs = 1'000;
  ApiError error = overloaded("too many requests are waiting to be read", kRetryMs);
  error.limit = "tokenizer-queue-max";
  count_limit(app, error);
  sink->respond(to_response(error));
}

}  // namespace mole::server
