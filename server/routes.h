// The route table and what is common to all routes: names, methods, keys, CORS.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "server/app.h"
#include "server/http_exchange.h"

namespace mole::server {

using RouteHandler = void (*)(App& app, HttpRequest request, std::shared_ptr<ResponseSink> sink);

struct Route {
  std::string_view method;  // GET routes answer HEAD too
  std::string_view path;    // ends in "/*": everything below
  RouteHandler handler;
  bool needs_key = true;
};

/// All routes, by path.
std::span<const Route> routes();

/// Finds the route of each request and hands it over. Thread: any.
class Router final : public HttpHandler {
 public:
  explicit Router(App* app) : app_(app) {}
  void handle(HttpRequest request, std::shared_ptr<ResponseSink> sink) override;

 private:
  App* const app_;
};

}  // namespace mole::server
