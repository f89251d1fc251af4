// GET /v1/models and /v1/models/{id}
#include <algorithm>

#include "server/handlers/handlers.h"
#include "server/json_writer.h"

namespace mole::server {
namespace {

constexpr std::string_view kPrefix = "/v1/models/";

void append_model(std::string* out, const ServedModel& model, const std::string& name) {
  *out += "{\"id\":";
  append_json_string(out, name);
  *out += ",\"object\":\"model\",\"created\":";
  append_int(out, model.created);
  *out += ",\"owned_by\":\"mole\",\"max_model_len\":";
  append_int(out, model.engine->options().max_model_len);
  *out += '}';
}

}  // namespace

void handle_models(App& app, HttpRequest, std::shared_ptr<ResponseSink> sink) {
  const auto model = app.model();
  if (model == nullptr) {
    sink->respond(to_response(unavailable("the model is still loading")));
    return;
  }
  HttpResponse response;
  response.body = "{\"object\":\"list\",\"data\":[";
  for (size_t i = 0; i < model->names.size(); ++i) {
    if (i > 0) response.body += ',';
    append_model(&response.body, *model, model->names[i]);
  }
  response.body += "]}";
  sink->respond(std::move(response));
}

void handle_model(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink) {
  const auto model = app.model();
  if (model == nullptr) {
    sink->respond(to_response(unavailable("the model is still loading")));
    return;
  }
  const std::string name = request.head.path.substr(kPrefix.size());  // may contain slashes
  if (std::find(model->names.begin(), model->names.end(), name) == model->names.end()) {
    ApiError error = not_found("the model \"" + name + "\" is not served here", "model_not_found");
    error.param = "model";
    sink->respond(to_response(error));
    return;
  }
  HttpResponse response;
  append_model(&response.body, *model, name);
  sink->respond(std::move(response));
}

}  // namespace mole::server
