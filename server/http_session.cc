#include "server/http_session.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/write.hpp>
#include <exception>

#include "base/log.h"
#include "server/api_error.h"
#include "server/request_id.h"
#include "server/sse.h"

namespace mole::server {
namespace {

namespace asio = boost::asio;

constexpr TimeUs kUsPerMs = 1'000;
// Pipelined requests are taken in up to here while one is being answered.
constexpr size_t kPipelinedBytesMax = 64 * 1024;

}  // namespace

// The sink that a handler holds. It may outlive its exchange: what comes too late goes nowhere.
class HttpSession::Exchange final : public ResponseSink {
 public:
  Exchange(std::shared_ptr<HttpSession> session, uint64_t serial)
      : session_(std::move(session)), serial_(serial) {}

  ~Exchange() override {
    // A handler that forgets its client is our bug; the client must not wait for it for ever.
    if (answered_ || session_->context_->stopping) return;
    asio::post(session_->socket_.get_executor(), [session = session_, serial = serial_] {
      if (session->serial_ == serial && !session->answered_) {
        session->respond(to_response(internal_error()));
      }
    });
  }

  void post(std::function<void()> task) override {
    if (session_->context_->stopping) return;
    asio::post(session_->socket_.get_executor(), std::move(task));
  }
  std::function<void()> waker(std::weak_ptr<StreamListener> listener) override {
    // Only the executor: the session, or this, could otherwise end on the thread that wakes.
    return [executor = session_->socket_.get_executor(), listener = std::move(listener)] {
      asio::post(executor, [listener] {
        if (const auto self = listener.lock()) self->on_wake();
      });
    };
  }
  void set_route(std::string_view route, std::vector<HeaderField> headers) override {
    if (current()) session_->set_route(route, std::move(headers));
  }
  void attach(std::shared_ptr<StreamListener> listener) override {
    if (current()) {
      session_->listener_ = std::move(listener);
      session_->arm_timer();
    } else {
      listener->on_closed();
    }
  }
  void respond(HttpResponse response) override {
    answered_ = true;
    if (current()) session_->respond(std::move(response));
  }
  void begin_stream() override {
    answered_ = true;
    if (current()) session_->begin_stream();
  }
  void write_stream(std::string_view bytes) override {
    if (current()) session_->write_stream(bytes);
  }
  void end_stream(bool close_connection) override {
    if (current()) session_->end_stream(close_connection);
  }
  bool congested() const override { return current() && session_->congested_; }

 private:
  bool current() const {
    return session_->serial_ == serial_ && session_->phase_ == Phase::kHandling &&
           !session_->complete_;
  }

  std::shared_ptr<HttpSession> session_;
  const uint64_t serial_;
  std::atomic<bool> answered_{false};
};

HttpSession::HttpSession(Socket socket, SessionContext* context, std::function<void()> on_end)
    : socket_(std::move(socket)),
      timer_(socket_.get_executor()),
      context_(context),
      on_end_(std::move(on_end)),
      reader_(context->limits) {}

HttpSession::~HttpSession() { on_end_(); }

void HttpSession::start() {
  asio::post(socket_.get_executor(), [self = shared_from_this()] {
    boost::system::error_code ignored;  // a socket that refuses the option still works
    self->socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
    self->phase_start_us_ = self->context_->clock->now_us();
    self->start_read();
    self->arm_timer();
  });
}

// ---- reading

void HttpSession::start_read() {
  if (reading_ || input_ended_ || phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kHandling && reader_.buffered_bytes() >= kPipelinedBytesMax) return;
  reading_ = true;
  socket_.async_read_some(
      asio::buffer(input_),
      [self = shared_from_this()](const boost::system::error_code& code, size_t bytes) {
        self->reading_ = false;
        self->on_read(code, bytes);
      });
}

void HttpSession::on_read(const boost::system::error_code& code, size_t bytes) {
  if (phase_ == Phase::kClosed) return;
  if (code) {
    input_ended_ = true;
    // A client that has sent everything and half-closed still gets an answer that is already whole.
    if (phase_ == Phase::kHandling && complete_ && code == asio::error::eof) {
      keep_alive_ = false;
      return;
    }
    if (phase_ == Phase::kHandling) context_->clients_gone.add();
    close();
    return;
  }
  if (phase_ == Phase::kLingering) {
    lingered_bytes_ += bytes;
    // Past the bound nothing is read any more; the timer closes.
    if (static_cast<int64_t>(lingered_bytes_) < context_->limits.linger_bytes_max) start_read();
    return;
  }
  if (phase_ == Phase::kReading && head_start_us_ == 0) {
    head_start_us_ = context_->clock->now_us();
    arm_timer();
  }
  if (body_start_us_ != 0) body_bytes_ += static_cast<int64_t>(bytes);
  const auto state = reader_.feed(std::string_view(input_.data(), bytes));
  if (phase_ == Phase::kReading) on_reader(state);
  start_read();
}

void HttpSession::on_reader(RequestReader::State state) {
  switch (state) {
    case RequestReader::State::kHead:
      return;
    case RequestReader::State::kFailed:
      refuse(reader_.error());
      return;
    case RequestReader::State::kDone:
      dispatch();
      return;
    case RequestReader::State::kBody:
      break;
  }
  if (body_start_us_ != 0) return;
  body_start_us_ = context_->clock->now_us();
  arm_timer();
  if (reader_.head().expect_continue) {
    out_.append("HTTP/1.1 100 Continue\r\n\r\n");
    flush();
  }
}

void HttpSession::dispatch() {
  phase_ = Phase::kHandling;
  phase_start_us_ = received_us_ = write_progress_us_ = context_->clock->now_us();
  answered_ = complete_ = streaming_ = chunked_ = congested_ = false;
  status_ = 0;
  route_ = "unknown";
  extra_headers_.clear();
  ++serial_;
  ++requests_;
  ++context_->open_requests;

  HttpRequest request;
  request.head = reader_.head();
  request.body = reader_.take_body();
  request.received_us = received_us_;
  method_ = request.head.method;
  version_minor_ = request.head.version_minor;
  keep_alive_ = request.head.keep_alive && !context_->draining &&
                requests_ < context_->limits.keep_alive_requests_max;
  const std::string* given = request.head.find("x-request-id");
  request_id_ = given != nullptr && valid_request_id(*given) ? *given : new_request_id();
  request.request_id = request_id_;
  arm_timer();
  auto exchange = std::make_shared<Exchange>(shared_from_this(), serial_);
  try {
    context_->handler->handle(std::move(request), std::move(exchange));
  } catch (const std::exception& e) {
    log::error("a handler threw", {{"request_id", request_id_}, {"error", e.what()}});
    if (!answered_) respond(to_response(internal_error()));
  }
}

void HttpSession::refuse(const HttpError& error) {
  context_->requests_refused.add();
  ++context_->open_requests;
  phase_ = Phase::kHandling;
  phase_start_us_ = received_us_ = write_progress_us_ = context_->clock->now_us();
  answered_ = complete_ = streaming_ = false;
  route_ = "refused";
  method_.clear();
  extra_headers_.clear();
  ++serial_;
  keep_alive_ = false;
  request_id_ = new_request_id();
  ApiError shown;
  shown.status = error.status;
  shown.message = error.message;
  arm_timer();
  respond(to_response(shown));
}

// ---- writing

void HttpSession::set_route(std::string_view route, std::vector<HeaderField> headers) {
  route_ = route;
  extra_headers_ = std::move(headers);
}

void HttpSession::begin_head(ResponseHead head, const std::vector<HeaderField>& fields) {
  answered_ = true;
  status_ = head.status;
  // Draining may have begun since the request came in.
  keep_alive_ = keep_alive_ && !context_->draining && head.framing != BodyFraming::kUntilClose;
  head.keep_alive = keep_alive_;
  std::vector<HeaderField> all = extra_headers_;
  all.insert(all.end(), fields.begin(), fields.end());
  all.push_back({"x-request-id", request_id_});
  const TimeUs spent_us = context_->clock->now_us() - received_us_;
  all.push_back({"openai-processing-ms", std::to_string(spent_us / kUsPerMs)});
  append_response_head(&out_, head, all);
}

void HttpSession::respond(HttpResponse response) {
  if (response.close) keep_alive_ = false;
  ResponseHead head;
  head.status = response.status;
  head.content_type = response.content_type;
  head.framing = response.status == 204 ? BodyFraming::kNone : BodyFraming::kLength;
  head.content_length = response.body.size();
  if (response.status == 204) head.content_type = "";
  begin_head(head, response.headers);
  if (method_ != "HEAD" && response.status != 204) out_.append(response.body);
  complete_ = true;
  flush();
}

void HttpSession::begin_stream() {
  chunked_ = version_minor_ == 1;
  streaming_ = true;
  ResponseHead head;
  head.content_type = kSseContentType;
  head.framing = chunked_ ? BodyFraming::kChunked : BodyFraming::kUntilClose;
  begin_head(head, {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}});
  flush();
}

void HttpSession::write_stream(std::string_view bytes) {
  if (chunked_) {
    append_chunk(&out_, bytes);
  } else {
    out_.append(bytes);
  }
  congested_ = static_cast<int64_t>(unsent_bytes()) > context_->limits.stream_unsent_bytes_max;
  flush();
}

void HttpSession::end_stream(bool close_connection) {
  if (close_connection) keep_alive_ = false;
  if (chunked_) out_.append(kLastChunk);
  complete_ = true;
  flush();
}

void HttpSession::flush() {
  if (write_pending_ || phase_ == Phase::kClosed) return;
  if (written_ == writing_.size()) {
    if (out_.empty()) {
      if (complete_ && phase_ == Phase::kHandling) finish_exchange();
      return;
    }
    writing_.clear();
    std::swap(writing_, out_);
    written_ = 0;
    write_progress_us_ = context_->clock->now_us();
  }
  write_pending_ = true;
  socket_.async_write_some(
      asio::buffer(writing_.data() + written_, writing_.size() - written_),
      [self = shared_from_this()](const boost::system::error_code& code, size_t bytes) {
        self->write_pending_ = false;
        self->on_written(code, bytes);
      });
}

void HttpSession::on_written(const boost::system::error_code& code, size_t bytes) {
  if (phase_ == Phase::kClosed) return;
  if (code) {
    context_->clients_gone.add();
    close();
    return;
  }
  written_ += bytes;
  write_progress_us_ = context_->clock->now_us();
  if (congested_ &&
      static_cast<int64_t>(unsent_bytes()) <= context_->limits.stream_unsent_bytes_max / 2) {
    congested_ = false;
    if (listener_ != nullptr) listener_->on_drained();
  }
  flush();
}

void HttpSession::finish_exchange() {
  --context_->open_requests;
  const auto listener = std::move(listener_);  // may hold the last reference to the exchange
  listener_ = nullptr;
  const double seconds =
      static_cast<double>(context_->clock->now_us() - received_us_) / (1e3 * kUsPerMs);
  context_->metrics
      ->counter("http_requests_total", "HTTP requests answered, by route and status",
                {{"route", route_}, {"code", std::to_string(status_)}})
      .add();
  if (route_ != "/metrics" && route_ != "/livez" && route_ != "/readyz" && route_ != "/health") {
    log::info("request", {{"request_id", request_id_},
                          {"method", method_},
                          {"route", route_},
                          {"status", status_},
                          {"seconds", seconds}});
  }
  if (keep_alive_) {
    next_request();
  } else {
    linger();
  }
}

void HttpSession::next_request() {
  ++serial_;
  phase_ = Phase::kReading;
  phase_start_us_ = context_->clock->now_us();
  body_start_us_ = 0;
  body_bytes_ = 0;
  complete_ = false;
  const auto state = reader_.next();
  head_start_us_ = reader_.idle() ? 0 : phase_start_us_;
  arm_timer();
  on_reader(state);
  start_read();
}

// Half-closes and reads on for a moment: closing at once would reset the connection, and the client
// could lose the answer that explains why.
void HttpSession::linger() {
  ++serial_;
  phase_ = Phase::kLingering;
  phase_start_us_ = context_->clock->now_us();
  boost::system::error_code ignored;  // the peer may be gone already
  socket_.shutdown(Socket::shutdown_send, ignored);
  if (input_ended_) {
    close();
    return;
  }
  arm_timer();
  start_read();
}

void HttpSession::close() {
  if (phase_ == Phase::kClosed) return;
  if (phase_ == Phase::kHandling) --context_->open_requests;
  phase_ = Phase::kClosed;
  ++serial_;
  boost::system::error_code ignored;  // nothing is left to be done about it
  socket_.close(ignored);
  timer_.cancel();
  if (const auto listener = std::move(listener_); listener != nullptr) listener->on_closed();
  listener_ = nullptr;
}

// ---- time

// The nearest moment at which something may be too late. It only ever moves away while a phase
// lasts (bytes arrive, are written), so the timer may fire early and look again.
TimeUs HttpSession::deadline_us() const {
  const ServerLimits& limits = context_->limits;
  switch (phase_) {
    case Phase::kReading: {
      if (body_start_us_ != 0) {
        TimeUs deadline = body_start_us_ + limits.body_deadline_ms * kUsPerMs;
        if (limits.body_rate_min_bytes_per_s > 0) {
          const TimeUs earned_us = body_bytes_ * 1'000'000 / limits.body_rate_min_bytes_per_s;
          deadline =
              std::min(deadline, body_start_us_ + limits.body_rate_grace_ms * kUsPerMs + earned_us);
        }
        return deadline;
      }
      if (head_start_us_ != 0) return head_start_us_ + limits.header_deadline_ms * kUsPerMs;
      const int64_t wait_ms =
          requests_ == 0 ? limits.header_deadline_ms : limits.keep_alive_idle_ms;
      return phase_start_us_ + wait_ms * kUsPerMs;
    }
    case Phase::kHandling: {
      const bool unsent = unsent_bytes() > 0;
      const int64_t wait_ms = unsent ? limits.stream_stall_ms : limits.heartbeat_ms;
      return std::max(write_progress_us_, phase_start_us_) + wait_ms * kUsPerMs;
    }
    case Phase::kLingering:
      return phase_start_us_ + limits.linger_ms * kUsPerMs;
    case Phase::kClosed:
      break;
  }
  return 0;
}

void HttpSession::arm_timer() {
  if (phase_ == Phase::kClosed) return;
  const TimeUs wait_us = std::max<TimeUs>(0, deadline_us() - context_->clock->now_us());
  timer_.expires_after(std::chrono::microseconds(wait_us));
  // A lingering session that has read its fill has no read under way that would keep it.
  const auto kept = phase_ == Phase::kLingering ? shared_from_this() : nullptr;
  timer_.async_wait([weak = weak_from_this(), kept](const boost::system::error_code& code) {
    const auto self = weak.lock();
    if (!code && self != nullptr) self->on_timer();
  });
}

void HttpSession::on_timer() {
  if (phase_ == Phase::kClosed) return;
  if (context_->clock->now_us() < deadline_us()) {
    arm_timer();
    return;
  }
  if (phase_ == Phase::kReading) {
    if (body_start_us_ == 0 && head_start_us_ == 0) {
      close();  // a silent connection gets no answer: it may be a browser's spare one
    } else {
      refuse({408, body_start_us_ == 0 ? "the request head took too long"
                                       : "the request body came too slowly"});
    }
    return;
  }
  if (phase_ == Phase::kLingering) {
    close();
    return;
  }
  if (unsent_bytes() > 0) {
    context_->clients_slow.add();
    log::warn("client too slow", {{"request_id", request_id_}, {"unsent_bytes", unsent_bytes()}});
    close();
    return;
  }
  write_progress_us_ = context_->clock->now_us();
  if (listener_ != nullptr) listener_->on_idle();
  arm_timer();
}

}  // namespace mole::server
