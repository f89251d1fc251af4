#include "server/routes.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "server/api_error.h"
#include "server/handlers/handlers.h"

namespace mole::server {
namespace {

// One row an endpoint; sorted by path.
constexpr std::array kRoutes = {
    Route{"POST", "/detokenize", handle_detokenize},
    Route{"GET", "/health", handle_health, false},
    Route{"GET", "/livez", handle_livez, false},
    Route{"GET", "/metrics", handle_metrics},
    Route{"GET", "/readyz", handle_readyz, false},
    Route{"POST", "/tokenize", handle_tokenize},
    Route{"POST", "/v1/chat/completions", handle_chat_completions},
    Route{"POST", "/v1/completions", handle_completions},
    Route{"GET", "/v1/models", handle_models},
    Route{"GET", "/v1/models/*", handle_model},
};

bool matches(const Route& route, std::string_view path) {
  if (!route.path.ends_with("/*")) return route.path == path;
  return path.starts_with(route.path.substr(0, route.path.size() - 1));
}

const Route* find_route(std::string_view path) {
  const auto found = std::find_if(kRoutes.begin(), kRoutes.end(),
                                  [&](const Route& r) { return matches(r, path); });
  return found == kRoutes.end() ? nullptr : &*found;
}

std::string allowed_methods(const Route& route) {
  return std::string(route.method) + (route.method == "GET" ? ", HEAD, OPTIONS" : ", OPTIONS");
}

// Headers that let a page of an allowed origin read the answer; none otherwise.
std::vector<HeaderField> cors_headers(const std::vector<std::string>& allowed,
                                      const RequestHead& head) {
  const std::string* origin = head.find("origin");
  if (allowed.empty() || origin == nullptr) return {};
  const bool all = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (!all && std::find(allowed.begin(), allowed.end(), *origin) == allowed.end()) {
    return {{"vary", "origin"}};
  }
  return {{"access-control-allow-origin", all ? "*" : *origin},
          {"vary", "origin"},
          {"access-control-expose-headers", "x-request-id, retry-after, retry-after-ms"}};
}

HttpResponse answer_options(const std::string& allow, bool cors) {
  HttpResponse response;
  response.status = 204;
  response.headers.push_back({"allow", allow});
  if (cors) {
    response.headers.push_back({"access-control-allow-methods", allow});
    response.headers.push_back(
        {"access-control-allow-headers", "authorization, content-type, x-request-id"});
    response.headers.push_back({"access-control-max-age", "600"});
  }
  return response;
}

HttpResponse wrong_method(const std::string& method, const std::string& path,
                          const std::string& allow) {
  ApiError error;
  error.status = 405;
  error.message = method + " is not allowed on " + path + "; allowed: " + allow;
  error.code = "method_not_allowed";
  HttpResponse response = to_response(error);
  response.headers.push_back({"allow", allow});
  return response;
}

HttpResponse wrong_key(bool given) {
  ApiError error;
  error.status = 401;
  error.message = given ? "the API key is not valid"
                        : "an API key is missing; send it as \"Authorization: Bearer KEY\"";
  error.code = "invalid_api_key";
  HttpResponse response = to_response(error);
  response.headers.push_back({"www-authenticate", "Bearer"});
  return response;
}

}  // namespace

std::span<const Route> routes() { return kRoutes; }

void Router::handle(HttpRequest request, std::shared_ptr<ResponseSink> sink) {
  const RequestHead& head = request.head;
  std::vector<HeaderField> cors = cors_headers(app_->options().allowed_origins, head);
  const bool cors_allowed = cors.size() > 1;
  const Route* route = find_route(head.path);
  sink->set_route(route == nullptr ? "unknown" : route->path, std::move(cors));
  if (head.path == "*") {
    sink->respond(answer_options("GET, HEAD, POST, OPTIONS", cors_allowed));
    return;
  }
  if (route == nullptr) {
    sink->respond(to_response(not_found("there is no " + head.path + " here", "unknown_url")));
    return;
  }
  const std::string allow = allowed_methods(*route);
  if (head.method == "OPTIONS") {
    sink->respond(answer_options(allow, cors_allowed));
    return;
  }
  const std::string* authorization = head.find("authorization");
  if (route->needs_key &&
      !app_->options().api_keys.allows(authorization == nullptr ? "" : *authorization)) {
    sink->respond(wrong_key(authorization != nullptr));
    return;
  }
  if (head.method != route->method && !(head.method == "HEAD" && route->method == "GET")) {
    sink->respond(wrong_method(head.method, head.path, allow));
    return;
  }
  route->handler(*app_, std::move(request), std::move(sink));
}

}  // namespace mole::server
