// The strict gate in front of the HTTP parser: pure functions over the raw bytes of a request head.
// Beast lets pass what two servers may read differently (unknown transfer codings, a second Host,
// folded lines, "Content-Length: 2, 2", …); behind a proxy that is request smuggling. So only a
// head that passes here reaches Beast, and after any refusal the connection closes. Thread: any.
// Source: RFC 9110 and 9112; the list of gaps is ours, measured (tests/server).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/limits.h"

namespace mole::server {

struct HeaderField {
  std::string name;  // lower case
  std::string value;
};

/// A request head that can only be valid.
struct RequestHead {
  std::string method;  // one of the allowed ones, upper case
  std::string path;    // percent-decoded, begins with '/' (or "*" for OPTIONS)
  std::string query;   // after '?', as sent
  int version_minor = 1;
  std::vector<HeaderField> fields;
  std::optional<uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool expect_continue = false;

  /// The first field `name` (lower case), or null.
  const std::string* find(std::string_view name) const;
};

/// Why a request was refused before it reached a handler.
struct HttpError {
  int status = 400;
  std::string message;
};

/// Finds the end of a head in bytes that arrive bit by bit, and refuses early what no later byte
/// can mend. Never looks at a byte twice.
class HeadScanner {
 public:
  explicit HeadScanner(const ServerLimits& limits) : limits_(&limits) {}

  enum class State { kNeedMore, kComplete, kError };
  /// `bytes`: everything received of this request so far.
  State scan(std::string_view bytes);
  size_t head_bytes() const { return position_; }  // with kComplete: blank line included
  const HttpError& error() const { return error_; }

 private:
  State fail(int status, std::string message);
  State end_of_line();

  const ServerLimits* limits_;
  size_t position_ = 0;
  size_t line_start_ = 0;
  int64_t lines_ = 0;  // complete ones, the request line included
  bool carriage_return_ = false;
  HttpError error_;
};

/// Parses and checks a whole head (as HeadScanner delimits it).
std::variant<RequestHead, HttpError> parse_head(std::string_view head, const ServerLimits& limits);

/// Whether a client's x-request-id may be echoed: 1 to 128 letters, digits, '-', '_', '.', ':'.
bool valid_request_id(std::string_view id);

/// Decodes %XX; nullopt for a broken escape or one that gives NUL or a control character.
std::optional<std::string> percent_decode(std::string_view text);

/// ASCII only.
std::string to_lower(std::string_view text);

}  // namespace mole::server
