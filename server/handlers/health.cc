// GET /health, /livez, /readyz, /metrics
#include "server/handlers/handlers.h"

namespace mole::server {
namespace {

HttpResponse state_response(bool good, const char* good_state, const std::string& bad_state) {
  if (!good) return to_response(unavailable(bad_state));
  HttpResponse response;
  response.body = std::string("{\"status\":\"") + good_state + "\"}";
  return response;
}

HttpResponse readiness(const App& app) {
  std::string why = "the engine makes no progress";
  if (app.model() == nullptr) why = "the model is still loading";
  if (app.draining()) why = "the server is shutting down";
  return state_response(app.ready(), "ready", why);
}

}  // namespace

void handle_health(App& app, HttpRequest, std::shared_ptr<ResponseSink> sink) {
  sink->respond(readiness(app));
}

void handle_readyz(App& app, HttpRequest, std::shared_ptr<ResponseSink> sink) {
  sink->respond(readiness(app));
}

void handle_livez(App& app, HttpRequest, std::shared_ptr<ResponseSink> sink) {
  sink->respond(state_response(app.alive(), "alive", "the engine makes no progress"));
}

void handle_metrics(App& app, HttpRequest, std::shared_ptr<ResponseSink> sink) {
  HttpResponse response;
  response.content_type = "text/plain; version=0.0.4; charset=utf-8";
  response.body = app.metrics().expose();
  sink->respond(std::move(response));
}

}  // namespace mole::server
