#include "server/http_gate.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace mole::server {
namespace {

constexpr std::array<std::string_view, 7> kMethods = {"GET", "HEAD",   "POST", "OPTIONS",
                                                      "PUT", "DELETE", "PATCH"};

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// RFC 9110, 5.6.2.
bool is_token_char(char c) {
  return is_digit(c) || is_alpha(c) ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

std::optional<HttpError> bad(std::string message) { return HttpError{400, std::move(message)}; }

// uri-host [":" port]: a registered name, an IPv4 address or a bracketed IPv6 one.
bool valid_host(std::string_view host) {
  if (host.empty()) return false;
  const size_t colon = host.front() == '[' ? host.find(':', host.find(']')) : host.find(':');
  const std::string_view name = host.substr(0, colon);
  if (colon != std::string_view::npos) {
    const std::string_view port = host.substr(colon + 1);
    if (port.empty() || port.size() > 5 || !std::all_of(port.begin(), port.end(), is_digit)) {
      return false;
    }
  }
  if (name.empty()) return false;
  if (name.front() == '[') {
    return name.size() > 3 && name.back() == ']' &&
           std::all_of(name.begin() + 1, name.end() - 1, [](char c) {
             return hex_value(c) >= 0 || c == ':' || c == '.' || c == '%';
           });
  }
  return std::all_of(name.begin(), name.end(), [](char c) {
    return is_digit(c) || is_alpha(c) || c == '-' || c == '.' || c == '_' || c == '~';
  });
}

std::optional<HttpError> parse_version(std::string_view version, RequestHead* head) {
  if (version.size() != 8 || version.substr(0, 5) != "HTTP/" || !is_digit(version[5]) ||
      version[6] != '.' || !is_digit(version[7])) {
    return bad("the request line does not end in an HTTP version");
  }
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    return HttpError{505, "only HTTP/1.1 and HTTP/1.0 are spoken here"};
  }
  head->version_minor = version[7] - '0';
  head->keep_alive = head->version_minor == 1;
  return std::nullopt;
}

// Sets path, query and, of an absolute target, the authority (which Host must equal).
std::optional<HttpError> parse_target(std::string_view target, RequestHead* head,
                                      std::string* authority) {
  for (char c : target) {
    if (c < 0x21 || c > 0x7e) return bad("the request target holds a byte that is not printable");
  }
  if (target == "*" && head->method == "OPTIONS") {
    head->path = "*";
    return std::nullopt;
  }
  constexpr std::string_view kScheme = "http://";
  if (target.substr(0, kScheme.size()) == kScheme) {
    const std::string_view rest = target.substr(kScheme.size());
    const size_t slash = rest.find('/');
    *authority = to_lower(rest.substr(0, slash));
    if (!valid_host(*authority)) return bad("the request target names no valid host");
    target = slash == std::string_view::npos ? "/" : rest.substr(slash);
  }
  if (target.empty() || target.front() != '/') return bad("the request target must begin with /");
  if (target.find('#') != std::string_view::npos) return bad("the request target holds a #");
  const size_t question = target.find('?');
  const auto path = percent_decode(target.substr(0, question));
  if (!path.has_value()) return bad("the request target holds a broken percent escape");
  head->path = *path;
  if (question != std::string_view::npos) head->query = target.substr(question + 1);
  return std::nullopt;
}

std::optional<HttpError> parse_request_line(std::string_view line, RequestHead* head,
                                            std::string* authority) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) {
    return bad("the request line must be: method, one space, target, one space, version");
  }
  const std::string_view method = line.substr(0, first);
  if (std::find(kMethods.begin(), kMethods.end(), method) == kMethods.end()) {
    return bad("unknown method; known are GET, HEAD, POST, OPTIONS, PUT, DELETE, PATCH");
  }
  head->method = method;
  if (auto error = parse_version(line.substr(last + 1), head)) return error;
  return parse_target(line.substr(first + 1, last - first - 1), head, authority);
}

std::optional<HttpError> parse_field(std::string_view line, RequestHead* head) {
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return bad("a header line has no colon");
  const std::string_view name = line.substr(0, colon);
  if (!is_token(name)) return bad("a header name holds a character that is not allowed");
  const std::string_view value = trim(line.substr(colon + 1));
  head->fields.push_back({to_lower(name), std::string(value)});
  return std::nullopt;
}

std::optional<HttpError> check_host(const RequestHead& head, const std::string& authority) {
  const std::string* host = nullptr;
  for (const auto& field : head.fields) {
    if (field.name != "host") continue;
    if (host != nullptr) return bad("more than one Host");
    host = &field.value;
  }
  if (host == nullptr) {
    if (head.version_minor == 0) return std::nullopt;
    return bad("Host is missing");
  }
  if (!valid_host(*host)) return bad("Host is not a host name with an optional port");
  if (!authority.empty() && to_lower(*host) != authority) {
    return bad("Host differs from the request target");
  }
  return std::nullopt;
}

std::optional<HttpError> check_framing(const ServerLimits& limits, RequestHead* head) {
  bool has_coding = false;
  for (const auto& [name, value] : head->fields) {
    if (name == "transfer-encoding") {
      if (has_coding) return bad("more than one Transfer-Encoding");
      if (head->version_minor == 0) return bad("Transfer-Encoding in HTTP/1.0");
      if (to_lower(value) != "chunked") return bad("the only Transfer-Encoding taken is: chunked");
      has_coding = true;
    } else if (name == "content-length") {
      if (head->content_length.has_value()) return bad("more than one Content-Length");
      uint64_t length = 0;
      const char* end = value.data() + value.size();
      const auto [stop, code] = std::from_chars(value.data(), end, length);
      const bool digits = !value.empty() && std::all_of(value.begin(), value.end(), is_digit);
      if (!digits || stop != end || code != std::errc()) {
        return bad("Content-Length must be digits and fit in 64 bits");
      }
      head->content_length = length;
    }
  }
  if (has_coding && head->content_length.has_value()) {
    return bad("both Transfer-Encoding and Content-Length");
  }
  head->chunked = has_coding;
  if (head->content_length.value_or(0) > static_cast<uint64_t>(limits.body_bytes_max)) {
    return HttpError{413,
                     "the body is larger than " + std::to_string(limits.body_bytes_max) + " bytes"};
  }
  return std::nullopt;
}

std::optional<HttpError> check_connection(RequestHead* head) {
  for (const auto& [name, value] : head->fields) {
    if (name == "connection") {
      size_t begin = 0;
      while (begin <= value.size()) {
        const size_t comma = std::min(value.find(',', begin), value.size());
        const std::string option =
            to_lower(trim(std::string_view(value).substr(begin, comma - begin)));
        if (option == "close") {
          head->keep_alive = false;
          return std::nullopt;  // close beats keep-alive, wherever it stands
        }
        if (option == "keep-alive") head->keep_alive = true;
        begin = comma + 1;
      }
    } else if (name == "expect") {
      if (to_lower(value) != "100-continue") {
        return HttpError{417, "the only Expect taken is: 100-continue"};
      }
      head->expect_continue = head->version_minor == 1;
    }
  }
  return std::nullopt;
}

}  // namespace

const std::string* RequestHead::find(std::string_view name) const {
  for (const auto& field : fields) {
    if (field.name == name) return &field.value;
  }
  return nullptr;
}

HeadScanner::State HeadScanner::fail(int status, std::string message) {
  error_ = {status, std::move(message)};
  return State::kError;
}

// Called with position_ just past "\r\n".
HeadScanner::State HeadScanner::end_of_line() {
  const bool blank = position_ - line_start_ == 2;
  if (blank && lines_ == 0) return fail(400, "a request must begin with its request line");
  if (blank) return State::kComplete;
  ++lines_;
  if (lines_ - 1 > limits_->header_count_max) {
    return fail(431, "more than " + std::to_string(limits_->header_count_max) + " header fields");
  }
  line_start_ = position_;
  return State::kNeedMore;
}

HeadScanner::State HeadScanner::scan(std::string_view bytes) {
  while (position_ < bytes.size()) {
    const auto c = static_cast<unsigned char>(bytes[position_]);
    const bool line_begins = position_ == line_start_;
    if (static_cast<int64_t>(++position_) > limits_->header_bytes_max) {
      return fail(431, "the request head is larger than " +
                           std::to_string(limits_->header_bytes_max) + " bytes");
    }
    if (carriage_return_) {
      if (c != '\n') return fail(400, "a carriage return that ends no line");
      carriage_return_ = false;
      const State state = end_of_line();
      if (state != State::kNeedMore) return state;
      continue;
    }
    if (static_cast<int64_t>(position_ - line_start_) > limits_->header_line_bytes_max + 1) {
      return fail(431, "a line of the request head is longer than " +
                           std::to_string(limits_->header_line_bytes_max) + " bytes");
    }
    if (c == '\r') {
      carriage_return_ = true;
      continue;
    }
    if (c == '\n') return fail(400, "a line feed without a carriage return");
    if ((c < 0x20 && c != '\t') || c == 0x7f) return fail(400, "a control character in the head");
    if (line_begins && (c == ' ' || c == '\t')) return fail(400, "a folded line in the head");
    if (lines_ == 0 && c >= 0x80) return fail(400, "the request line is not ASCII");
  }
  return State::kNeedMore;
}

std::variant<RequestHead, HttpError> parse_head(std::string_view head, const ServerLimits& limits) {
  RequestHead parsed;
  std::string authority;
  size_t end = head.find("\r\n");
  if (auto error = parse_request_line(head.substr(0, end), &parsed, &authority)) return *error;
  for (size_t begin = end + 2; (end = head.find("\r\n", begin)) != begin; begin = end + 2) {
    if (end == std::string_view::npos) return HttpError{400, "the request head has no end"};
    if (auto error = parse_field(head.substr(begin, end - begin), &parsed)) return *error;
  }
  if (auto error = check_host(parsed, authority)) return *error;
  if (auto error = check_framing(limits, &parsed)) return *error;
  if (auto error = check_connection(&parsed)) return *error;
  return parsed;
}

bool valid_request_id(std::string_view id) {
  return !id.empty() && static_cast<int64_t>(id.size()) <= kRequestIdBytesMax &&
         std::all_of(id.begin(), id.end(), [](char c) {
           return is_digit(c) || is_alpha(c) || c == '-' || c == '_' || c == '.' || c == ':';
         });
}

std::optional<std::string> percent_decode(std::string_view text) {
  std::string decoded;
  decoded.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const int high = hex_value(text[i + 1]), low = hex_value(text[i + 2]);
    if (high < 0 || low < 0) return std::nullopt;
    const int value = high * 16 + low;
    if (value < 0x20 || value == 0x7f) return std::nullopt;
    decoded += static_cast<char>(value);
    i += 2;
  }
  return decoded;
}

std::string to_lower(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return lower;
}

}  // namespace mole::server
