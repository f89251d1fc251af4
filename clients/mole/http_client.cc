#include "clients/mole/http_client.h"

#include <utility>  // before Asio, which g++ 12 in C++20 otherwise fails to compile

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <csignal>
#include <limits>
#include <optional>

namespace mole::client {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

// One call: resolve, connect, write, read until the end. Thread: the caller's, inside run().
class Call {
 public:
  Call(const Url& url, const HttpCall& call, const OnBytes& on_bytes)
      : url_(url), on_bytes_(on_bytes), resolver_(io_), socket_(io_), signals_(io_, SIGINT) {
    request_.method_string(call.method);
    request_.target(url.prefix + call.path);
    request_.version(11);
    request_.set(http::field::host, host_field(url));
    request_.set(http::field::user_agent, "mole");
    request_.set(http::field::connection, "close");
    if (!call.api_key.empty()) request_.set(http::field::authorization, "Bearer " + call.api_key);
    if (!call.body.empty()) {
      request_.set(http::field::content_type, "application/json");
      request_.body() = call.body;
    }
    request_.prepare_payload();
    parser_.body_limit(std::numeric_limits<uint64_t>::max());
  }

  StatusOr<HttpAnswer> run() {
    signals_.async_wait([this](const error_code& code, int) {
      if (code) return;
      cancelled_ = true;
      resolver_.cancel();
      error_code ignored;  // it may not be open yet
      socket_.close(ignored);
    });
    resolver_.async_resolve(url_.host, url_.port,
                            [this](const error_code& code, tcp::resolver::results_type found) {
                              if (!failed(code)) connect(found);
                            });
    io_.run();
    if (cancelled_) return absl::CancelledError("interrupted");
    if (error_) {
      return absl::UnavailableError("cannot reach " + host_field(url_) + ": " + error_.message());
    }
    return std::move(answer_);
  }

 private:
  bool failed(const error_code& code) {
    if (!code) return false;
    error_ = code;
    signals_.cancel();
    return true;
  }

  void connect(const tcp::resolver::results_type& found) {
    asio::async_connect(socket_, found, [this](const error_code& code, const tcp::endpoint&) {
      if (!failed(code)) write();
    });
  }

  void write() {
    http::async_write(socket_, request_, [this](const error_code& code, size_t) {
      if (!failed(code)) read();
    });
  }

  void read() {
    http::async_read_some(socket_, buffer_, parser_, [this](const error_code& code, size_t) {
      if (failed(code)) return;
      take();
      if (parser_.is_done()) {
        signals_.cancel();
      } else {
        read();
      }
    });
  }

  // Hands on what this read brought; the parser's body only ever holds that.
  void take() {
    if (!parser_.is_header_done()) return;
    answer_.status = static_cast<int>(parser_.get().result_int());
    answer_.content_type = std::string(parser_.get()[http::field::content_type]);
    std::string& body = parser_.get().body();
    if (answer_.status == 200 && on_bytes_ != nullptr) {
      on_bytes_(body);
    } else {
      answer_.body += body;
    }
    body.clear();
  }

  const Url& url_;
  const OnBytes& on_bytes_;
  asio::io_context io_;
  tcp::resolver resolver_;
  tcp::socket socket_;
  asio::signal_set signals_;
  http::request<http::string_body> request_;
  http::response_parser<http::string_body> parser_;
  boost::beast::flat_buffer buffer_;
  HttpAnswer answer_;
  error_code error_;
  bool cancelled_ = false;
};

}  // namespace

StatusOr<HttpAnswer> http_call(const Url& url, const HttpCall& call, const OnBytes& on_bytes) {
  return Call(url, call, on_bytes).run();
}

}  // namespace mole::client
