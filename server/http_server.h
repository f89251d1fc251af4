// Listens, accepts within the bounds, and runs the sessions on a few I/O threads.
// Thread: the owner's; the handler is called on the I/O threads.
//
// A worker may hold a ResponseSink a moment longer than its request lasts, and a sink holds its
// socket; the engine's thread posts wake-ups to the sockets' executor. So: stop() first, then
// destroy the App, which ends both kinds of threads, the server last.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/status.h"
#include "server/http_exchange.h"
#include "server/limits.h"

namespace mole::server {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // a numeric address, or "localhost"
  uint16_t port = 8000;            // 0 = any free one
  int io_threads = 2;
  ServerLimits limits;
};

class HttpServer {
 public:
  /// Binds and listens. `metrics` and `clock` must outlive the server; `handler` is called until
  /// stop().
  /// Errors: kInvalidArgument (host), kUnavailable (the port is taken or not ours to take).
  static StatusOr<std::unique_ptr<HttpServer>> listen(const HttpServerOptions& options,
                                                      HttpHandler* handler, Metrics* metrics,
                                                      const Clock* clock);
  /// Stops.
  ~HttpServer();

  uint16_t port() const;
  /// Begins to accept.
  void start();
  /// From now on every answer closes its connection.
  void begin_drain();
  int64_t connections() const;
  /// Requests that have been received and not been answered completely.
  int64_t open_requests() const;
  /// Stops accepting, drops what connections there are and joins the threads.
  void stop();

 private:
  struct Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole::server
