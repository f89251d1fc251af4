// One request and the way back to its client, as handlers see them: no sockets, no Asio.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "server/http_gate.h"

namespace mole::server {

struct HttpRequest {
  RequestHead head;
  std::string body;
  std::string request_id;  // the client's own when valid, else ours
  TimeUs received_us = 0;  // when the request was whole
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::vector<HeaderField> headers;
  bool close = false;  // the connection ends after this response
};

/// What happens to a response on its way out, and a wake-up from elsewhere. Called on the session's
/// strand.
class StreamListener {
 public:
  virtual ~StreamListener() = default;
  virtual void on_idle() = 0;     // nothing was written for the heartbeat's time
  virtual void on_drained() = 0;  // unsent bytes have fallen below the limit again
  virtual void on_closed() = 0;  // the client is gone, or too slow; nothing can be written any more
  virtual void on_wake() = 0;    // a function of ResponseSink::waker() was called
};

/// The way back to one client, for one request: either respond(), or begin_stream(), write_stream()
/// …, end_stream(). Thread: the session's strand, except post().
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;

  /// Runs `task` on the strand. Thread: any.
  virtual void post(std::function<void()> task) = 0;
  /// A function that has the listener's on_wake() called on the strand, if the listener still lives
  /// by then. The function itself keeps nothing alive and never touches the listener, so that a
  /// thread that is not ours (the engine's) can call and destroy it. Thread: any, until the server
  /// is destroyed.
  virtual std::function<void()> waker(std::weak_ptr<StreamListener> listener) = 0;

  /// Headers to send with whatever answers this request; `route` names it in metrics and logs.
  virtual void set_route(std::string_view route, std::vector<HeaderField> headers) = 0;
  /// Who hears of idleness and of the client's end; kept until the response is complete.
  virtual void attach(std::shared_ptr<StreamListener> listener) = 0;

  virtual void respond(HttpResponse response) = 0;
  /// Sends the head of a 200 event stream.
  virtual void begin_stream() = 0;
  virtual void write_stream(std::string_view bytes) = 0;
  /// With `close_connection` the stream just ends: what an error after the head must look like.
  virtual void end_stream(bool close_connection) = 0;

  /// More than the limit is unsent: write no more until on_drained().
  virtual bool congested() const = 0;
};

/// Where a session hands its requests. Thread: any; one call per request, on the session's strand.
class HttpHandler {
 public:
  virtual ~HttpHandler() = default;
  virtual void handle(HttpRequest request, std::shared_ptr<ResponseSink> sink) = 0;
};

}  // namespace mole::server
