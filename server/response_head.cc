#include "server/response_head.h"

#include <charconv>
#include <ctime>

#include "server/json_writer.h"

namespace mole::server {
namespace {

std::string_view reason_phrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 204:
      return "No Content";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Content Too Large";
    case 415:
      return "Unsupported Media Type";
    case 417:
      return "Expectation Failed";
    case 429:
      return "Too Many Requests";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "";
  }
}

void append_field(std::string* out, std::string_view name, std::string_view value) {
  out->append(name);
  out->append(": ");
  out->append(value);
  out->append("\r\n");
}

void append_date(std::string* out) {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  const size_t size = std::strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", &parts);
  append_field(out, "date", std::string_view(text, size));
}

}  // namespace

void append_response_head(std::string* out, const ResponseHead& head,
                          const std::vector<HeaderField>& fields) {
  out->append("HTTP/1.1 ");
  append_int(out, head.status);
  out->push_back(' ');
  out->append(reason_phrase(head.status));
  out->append("\r\n");
  append_date(out);
  append_field(out, "server", "mole");
  if (!head.content_type.empty()) append_field(out, "content-type", head.content_type);
  append_field(out, "x-content-type-options", "nosniff");
  if (head.framing == BodyFraming::kLength) {
    append_field(out, "content-length", std::to_string(head.content_length));
  } else if (head.framing == BodyFraming::kChunked) {
    append_field(out, "transfer-encoding", "chunked");
  }
  append_field(out, "connection", head.keep_alive ? "keep-alive" : "close");
  for (const auto& [name, value] : fields) append_field(out, name, value);
  out->append("\r\n");
}

void append_chunk(std::string* out, std::string_view bytes) {
  if (bytes.empty()) return;
  char digits[20];
  const auto end = std::to_chars(digits, digits + sizeof(digits), bytes.size(), 16).ptr;
  out->append(digits, end);
  out->append("\r\n");
  out->append(bytes);
  out->append("\r\n");
}

}  // namespace mole::server
