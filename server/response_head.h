// The head of a response, appended to a buffer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "server/http_gate.h"

namespace mole::server {

enum class BodyFraming {
  kLength,      // Content-Length
  kChunked,     // a stream to an HTTP/1.1 client
  kUntilClose,  // a stream to an HTTP/1.0 client
  kNone,        // 204 and 1xx: no body, no length
};

struct ResponseHead {
  int status = 200;
  std::string_view content_type;
  BodyFraming framing = BodyFraming::kLength;
  size_t content_length = 0;
  bool keep_alive = true;
};

/// Appends status line, our standing fields, `fields` (lower-case names) and the blank line.
void append_response_head(std::string* out, const ResponseHead& head,
                          const std::vector<HeaderField>& fields);

/// Appends `bytes` as one chunk of a chunked body; nothing for an empty piece (it would end the
/// body).
void append_chunk(std::string* out, std::string_view bytes);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace mole::server
