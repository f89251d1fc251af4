#include "text/utf8_stream.h"

#include <cstddef>

#include "base/utf8.h"

namespace mole::text {
namespace {

/// Bytes at the start of `text`, which begin no code point, that one U+FFFD replaces: as many as
/// would begin one, or else one byte.
size_t invalid_length(std::string_view text) {
  size_t length = 1;
  while (length < text.size() && utf8_code_point_length(text.substr(0, length)) == -1) ++length;
  return length > 1 ? length - 1 : 1;
}

}  // namespace

std::string take_code_points(std::string& pending) {
  std::string text;
  std::string_view rest = pending;
  while (!rest.empty()) {
    const int length = utf8_code_point_length(rest);
    if (length < 0) break;
    if (length > 0) {
      text += rest.substr(0, static_cast<size_t>(length));
      rest.remove_prefix(static_cast<size_t>(length));
    } else {
      text += kReplacement;
      rest.remove_prefix(invalid_length(rest));
    }
  }
  pending.erase(0, pending.size() - rest.size());
  return text;
}

std::string take_all(std::string& pending) {
  std::string text = take_code_points(pending);
  if (!pending.empty()) text += kReplacement;
  pending.clear();
  return text;
}

}  // namespace mole::text
