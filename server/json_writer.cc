#include "server/json_writer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>

#include "base/utf8.h"
#include "text/utf8_stream.h"

namespace mole::server {
namespace {

constexpr float kLogprobSentinel = -9999.0f;

// Breaks a line for some readers of text, though not for JSON.
struct LineSeparator {
  std::string_view bytes, escaped;
};
constexpr LineSeparator kLineSeparators[] = {
    {"\xc2\x85", "\\u0085"}, {"\xe2\x80\xa8", "\\u2028"}, {"\xe2\x80\xa9", "\\u2029"}};

}  // namespace

void append_json_string(std::string* out, std::string_view text) {
  std::string escaped;
  mole::append_json_string(&escaped, text);
  for (size_t i = 0; i < escaped.size();) {
    size_t plain = escaped.find_first_of("\xc2\xe2", i);
    if (plain == std::string::npos) plain = escaped.size();
    out->append(escaped, i, plain - i);
    i = plain;
    if (i == escaped.size()) break;
    const std::string_view rest = std::string_view(escaped).substr(i);
    const auto* found = std::find_if(std::begin(kLineSeparators), std::end(kLineSeparators),
                                     [&](const auto& s) { return rest.starts_with(s.bytes); });
    const bool separator = found != std::end(kLineSeparators);
    out->append(separator ? found->escaped : rest.substr(0, 1));
    i += separator ? found->bytes.size() : 1;
  }
}

void append_int(std::string* out, int64_t value) {
  char digits[24];
  const auto end = std::to_chars(digits, digits + sizeof(digits), value).ptr;
  out->append(digits, end);
}

void append_logprob(std::string* out, float value) {
  // max() would pass a NaN on.
  const float printable =
      value > kLogprobSentinel && std::isfinite(value) ? value : kLogprobSentinel;
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof(digits), printable).ptr;
  const std::string_view text(digits, static_cast<size_t>(end - digits));
  out->append(text);
  if (text.find_first_of(".e") == std::string_view::npos) out->append(".0");
}

void append_byte_array(std::string* out, std::string_view text) {
  out->push_back('[');
  for (size_t i = 0; i < text.size(); ++i) {
    if (i > 0) out->push_back(',');
    append_int(out, static_cast<unsigned char>(text[i]));
  }
  out->push_back(']');
}

int64_t count_code_points(std::string_view text) {
  int64_t count = 0;
  for (char c : text) count += (static_cast<unsigned char>(c) & 0xc0u) != 0x80u;
  return count;
}

std::string replace_invalid_utf8(std::string_view bytes) {
  std::string pending(bytes);
  return text::take_all(pending);
}

}  // namespace mole::server
