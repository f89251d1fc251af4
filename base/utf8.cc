#include "base/utf8.h"

#include <cstdint>

namespace mole {
namespace {

// What may stand second after a lead byte, and how long the code point is (Unicode 15, table 3-7).
struct Lead {
  int length;
  uint8_t second_min, second_max;
};

Lead lead_of(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte >= 0xC2 && byte <= 0xDF) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte >= 0xE1 && byte <= 0xEF) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte >= 0xF1 && byte <= 0xF3) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

void append_escaped(std::string* out, char c) {
  constexpr char kHex[] = "0123456789abcdef";
  switch (c) {
    case '"':
      *out += "\\\"";
      return;
    case '\\':
      *out += "\\\\";
      return;
    case '\n':
      *out += "\\n";
      return;
    case '\r':
      *out += "\\r";
      return;
    case '\t':
      *out += "\\t";
      return;
    default:
      break;
  }
  const auto byte = static_cast<uint8_t>(c);
  if (byte >= 0x20 && byte != 0x7f) {
    *out += c;
    return;
  }
  *out += "\\u00";
  *out += kHex[byte >> 4];
  *out += kHex[byte & 15];
}

}  // namespace

int utf8_code_point_length(std::string_view text) {
  if (text.empty()) return -1;
  const Lead lead = lead_of(static_cast<uint8_t>(text[0]));
  for (int i = 1; i < lead.length; ++i) {
    if (static_cast<size_t>(i) >= text.size()) return -1;
    const auto byte = static_cast<uint8_t>(text[static_cast<size_t>(i)]);
    const uint8_t min = i == 1 ? lead.second_min : uint8_t{0x80};
    const uint8_t max = i == 1 ? lead.second_max : uint8_t{0xBF};
    if (byte < min || byte > max) return 0;
  }
  return lead.length;
}

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    const int length = utf8_code_point_length(text);
    if (length <= 0) return false;
    text.remove_prefix(static_cast<size_t>(length));
  }
  return true;
}

void append_json_string(std::string* out, std::string_view text) {
  *out += '"';
  while (!text.empty()) {
    const int length = utf8_code_point_length(text);
    if (length == 1) {
      append_escaped(out, text[0]);
    } else if (length > 1) {
      out->append(text.substr(0, static_cast<size_t>(length)));
    } else {
      *out += "\xEF\xBF\xBD";
    }
    text.remove_prefix(length > 0 ? static_cast<size_t>(length) : 1);
  }
  *out += '"';
}

}  // namespace mole
