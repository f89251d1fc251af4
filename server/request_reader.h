// One connection's bytes in, whole requests out; no sockets, no clock. The head goes through the
// strict gate (http_gate.h), then Beast's parser does the framing of the body. After an error the
// reader takes nothing more: what is left of the connection never becomes a second request. Thread:
// one owner.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "server/http_gate.h"
#include "server/limits.h"

namespace mole::server {

class RequestReader {
 public:
  enum class State {
    kHead,    // the head is not complete
    kBody,    // head() is valid, the body is not complete
    kDone,    // head() and take_body() are valid
    kFailed,  // error() says why; terminal
  };

  /// `limits` must outlive the reader.
  explicit RequestReader(const ServerLimits& limits);
  ~RequestReader();

  /// Takes all of `bytes` and parses as far as it can within the current request.
  State feed(std::string_view bytes);
  State state() const;
  /// With kDone: begins the next request with the bytes that came after this one.
  State next();

  const RequestHead& head() const;
  std::string take_body();
  const HttpError& error() const;
  /// Bytes received that belong to no finished request.
  size_t buffered_bytes() const;
  bool idle() const { return state() == State::kHead && buffered_bytes() == 0; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mole::server
