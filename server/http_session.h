// One client connection: reads requests, hands them to the handler one at a time, writes the
// answers, keeps the time limits. Thread: its own strand; nothing here blocks.
//
// This header and http_server.cc are the only ones that know Asio; handlers see http_exchange.h.
#pragma once

#include <utility>  // before Asio, which g++ 12 in C++20 otherwise fails to compile

#include <array>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "server/http_exchange.h"
#include "server/limits.h"
#include "server/request_reader.h"
#include "server/response_head.h"

namespace mole::server {

/// What all sessions of a server share; outlives them.
struct SessionContext {
  explicit SessionContext(const ServerLimits& l) : limits(l) {}

  const ServerLimits limits;
  HttpHandler* handler = nullptr;
  const Clock* clock = nullptr;
  Metrics* metrics = nullptr;
  Counter clients_slow;
  Counter clients_gone;
  Counter requests_refused;               // before they reached a handler
  std::atomic<int64_t> open_requests{0};  // handed over and not completely answered
  std::atomic<bool> draining{false};      // answers close their connection
  std::atomic<bool> stopping{false};      // the io_context is going away: post nothing
};

class HttpSession : public std::enable_shared_from_this<HttpSession> {
 public:
  using Socket = boost::asio::ip::tcp::socket;

  /// `socket` runs on its own strand; `on_end` is called once when the session is destroyed.
  HttpSession(Socket socket, SessionContext* context, std::function<void()> on_end);
  ~HttpSession();
  HttpSession(const HttpSession&) = delete;
  HttpSession& operator=(const HttpSession&) = delete;

  /// Thread: any.
  void start();
  /// Ends the connection at once. Thread: the strand, or any when no I/O thread runs any more.
  void close();

 private:
  class Exchange;

  enum class Phase {
    kReading,    // waiting for a request, or for the rest of one
    kHandling,   // a handler has it; the answer may be on its way
    kLingering,  // the last answer is out; the client gets time to read it
    kClosed,
  };

  // Reading.
  void start_read();
  void on_read(const boost::system::error_code& code, size_t bytes);
  void on_reader(RequestReader::State state);
  void dispatch();
  void refuse(const HttpError& error);

  // Writing; called through Exchange.
  void set_route(std::string_view route, std::vector<HeaderField> headers);
  void respond(HttpResponse response);
  void begin_stream();
  void write_stream(std::string_view bytes);
  void end_stream(bool close_connection);
  void begin_head(ResponseHead head, const std::vector<HeaderField>& fields);
  void flush();
  void on_written(const boost::system::error_code& code, size_t bytes);
  size_t unsent_bytes() const { return out_.size() + writing_.size() - written_; }
  void finish_exchange();
  void next_request();
  void linger();

  // Time.
  TimeUs deadline_us() const;
  void arm_timer();
  void on_timer();

  Socket socket_;
  boost::asio::steady_timer timer_;
  SessionContext* context_;
  std::function<void()> on_end_;

  Phase phase_ = Phase::kReading;
  RequestReader reader_;
  std::array<char, 16 * 1024> input_;
  bool reading_ = false;
  bool input_ended_ = false;
  int64_t requests_ = 0;
  size_t lingered_bytes_ = 0;

  // Times of the steady clock, by phase.
  TimeUs phase_start_us_ = 0;
  TimeUs head_start_us_ = 0;  // first byte of the head; 0 = none yet
  TimeUs body_start_us_ = 0;  // 0 = the head is not complete
  int64_t body_bytes_ = 0;    // received of it

  // The current exchange.
  uint64_t serial_ = 0;  // an Exchange with another number is stale and ignored
  std::shared_ptr<StreamListener> listener_;
  std::string method_, request_id_, route_;
  std::vector<HeaderField> extra_headers_;
  TimeUs received_us_ = 0;
  int version_minor_ = 1;
  bool keep_alive_ = false;
  bool answered_ = false;  // a response has begun
  bool complete_ = false;  // and is whole
  bool streaming_ = false;
  bool chunked_ = false;
  bool congested_ = false;
  int status_ = 0;

  std::string out_;      // to be written after `writing_`
  std::string writing_;  // handed to the socket
  size_t written_ = 0;   // of writing_
  bool write_pending_ = false;
  TimeUs write_progress_us_ = 0;
};

}  // namespace mole::server
