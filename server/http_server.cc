#include "server/http_server.h"

#include <utility>  // before Asio, which g++ 12 in C++20 otherwise fails to compile

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "base/log.h"
#include "server/http_session.h"

namespace mole::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;

// After a failed accept (no file descriptor left, say): time for others to give some back.
constexpr std::chrono::milliseconds kAcceptPause(100);
constexpr int kBacklog = 1'024;

// Which connections there are, counted in all and per address. Thread: any.
class Connections {
 public:
  Connections(const ServerLimits& limits, Gauge active) : limits_(limits), active_(active) {}

  bool try_add(const std::string& address) {
    std::lock_guard lock(mutex_);
    if (total_ >= limits_.connections_max) return false;
    int64_t& of_address = per_address_[address];
    if (of_address >= limits_.connections_per_ip_max) return false;
    ++of_address;
    ++total_;
    active_.set(static_cast<double>(total_));
    return true;
  }
  void remember(uint64_t id, const std::shared_ptr<HttpSession>& session) {
    std::lock_guard lock(mutex_);
    sessions_.emplace(id, session);
  }
  void remove(uint64_t id, const std::string& address) {
    std::lock_guard lock(mutex_);
    sessions_.erase(id);
    const auto found = per_address_.find(address);
    if (--found->second == 0) per_address_.erase(found);
    --total_;
    active_.set(static_cast<double>(total_));
  }
  int64_t total() const {
    std::lock_guard lock(mutex_);
    return total_;
  }
  std::vector<std::shared_ptr<HttpSession>> sessions() const {
    std::lock_guard lock(mutex_);
    std::vector<std::shared_ptr<HttpSession>> alive;
    for (const auto& entry : sessions_) {
      if (auto session = entry.second.lock()) alive.push_back(std::move(session));
    }
    return alive;
  }

 private:
  const ServerLimits& limits_;
  mutable std::mutex mutex_;
  Gauge active_;
  std::map<std::string, int64_t> per_address_;               // guarded by mutex_
  std::map<uint64_t, std::weak_ptr<HttpSession>> sessions_;  // guarded by mutex_
  int64_t total_ = 0;                                        // guarded by mutex_
};

}  // namespace

struct HttpServer::Impl {
  Impl(const HttpServerOptions& o, HttpHandler* handler, Metrics* metrics, const Clock* clock)
      : options(o),
        context(o.limits),
        connections(context.limits, metrics->gauge("http_connections", "Open HTTP connections")),
        refused(metrics->counter("http_connections_refused_total",
                                 "Connections closed at accept because of a connection limit")),
        io(o.io_threads),
        acceptor(asio::make_strand(io)),
        retry(acceptor.get_executor()) {
    metrics->gauge("limit_http_connections", "Bound of http_connections.")
        .set(static_cast<double>(context.limits.connections_max));
    context.handler = handler;
    context.clock = clock;
    context.metrics = metrics;
    context.clients_slow =
        metrics->counter("http_client_slow_total", "Clients dropped because they read too slowly");
    context.clients_gone = metrics->counter("http_client_disconnects_total",
                                            "Clients gone before their answer was complete");
    context.requests_refused = metrics->counter(
        "http_requests_refused_total", "Requests refused for their framing, size or slowness");
  }

  void accept() {
    acceptor.async_accept(asio::make_strand(io),
                          [this](const boost::system::error_code& code, tcp::socket socket) {
                            if (!acceptor.is_open()) return;
                            if (code) {
                              log::warn("accept failed", {{"error", code.message()}});
                              retry.expires_after(kAcceptPause);
                              retry.async_wait([this](const boost::system::error_code& cancelled) {
                                if (!cancelled) accept();
                              });
                              return;
                            }
                            admit(std::move(socket));
                            accept();
                          });
  }

  void admit(tcp::socket socket) {
    boost::system::error_code code;
    const auto endpoint = socket.remote_endpoint(code);
    if (code) return;  // gone already
    const std::string address = endpoint.address().to_string();
    if (!connections.try_add(address)) {
      refused.add();
      return;
    }
    const uint64_t id = ++accepted;
    const auto session = std::make_shared<HttpSession>(
        std::move(socket), &context, [this, id, address] { connections.remove(id, address); });
    connections.remember(id, session);
    session->start();
  }

  HttpServerOptions options;
  SessionContext context;
  Connections connections;
  Counter refused;
  asio::io_context io;
  tcp::acceptor acceptor;
  asio::steady_timer retry;
  uint16_t port = 0;
  uint64_t accepted = 0;  // the acceptor's strand
  std::vector<std::thread> threads;
};

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() { stop(); }

StatusOr<std::unique_ptr<HttpServer>> HttpServer::listen(const HttpServerOptions& options,
                                                         HttpHandler* handler, Metrics* metrics,
                                                         const Clock* clock) {
  boost::system::error_code code;
  const std::string host = options.host == "localhost" ? "127.0.0.1" : options.host;
  const auto address = asio::ip::make_address(host, code);
  if (code) {
    return absl::InvalidArgumentError("host: \"" + options.host +
                                      "\" is not a numeric address (or localhost)");
  }
  std::unique_ptr<HttpServer> server(
      new HttpServer(std::make_unique<Impl>(options, handler, metrics, clock)));
  tcp::acceptor& acceptor = server->impl_->acceptor;
  const tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol(), code);
  if (!code) acceptor.set_option(asio::socket_base::reuse_address(true), code);
  if (!code) acceptor.bind(endpoint, code);
  if (!code) acceptor.listen(kBacklog, code);
  if (!code) server->impl_->port = acceptor.local_endpoint(code).port();
  if (code) {
    return absl::UnavailableError("cannot listen on " + options.host + " port " +
                                  std::to_string(options.port) + ": " + code.message());
  }
  return server;
}

uint16_t HttpServer::port() const { return impl_->port; }
void HttpServer::begin_drain() { impl_->context.draining = true; }
int64_t HttpServer::open_requests() const { return impl_->context.open_requests; }
int64_t HttpServer::connections() const { return impl_->connections.total(); }

void HttpServer::start() {
  asio::post(impl_->acceptor.get_executor(), [impl = impl_.get()] { impl->accept(); });
  for (int i = 0; i < impl_->options.io_threads; ++i) {
    impl_->threads.emplace_back([impl = impl_.get()] { impl->io.run(); });
  }
}

void HttpServer::stop() {
  if (impl_->context.stopping.exchange(true)) return;
  impl_->io.stop();
  for (auto& thread : impl_->threads) thread.join();
  // A session under a request and what answers it hold each other; closing lets go.
  for (const auto& session : impl_->connections.sessions()) session->close();
  boost::system::error_code ignored;  // it may never have been opened
  impl_->acceptor.close(ignored);
}

}  // namespace mole::server
