// UTF-8 that arrives in pieces. An invalid sequence becomes one U+FFFD for each maximal part of a
// code point, as the WHATWG encoding standard and Rust's from_utf8_lossy do.
#pragma once

#include <string>
#include <string_view>

namespace mole::text {

inline constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

/// Removes from `pending` all that is decided and returns it as valid UTF-8; what stays (at most 3
/// bytes) may still become a code point.
std::string take_code_points(std::string& pending);

/// The same at the end of the text: an unfinished code point is an invalid one.
std::string take_all(std::string& pending);

}  // namespace mole::text
