// UTF-8 checks and the one JSON string escaper.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mole {

/// Length in bytes (1 to 4) of the well-formed code point at the start of `text`; 0 if the bytes
/// there can't begin one; -1 if they begin one that goes on past the end. Overlong forms,
/// surrogates and values above U+10FFFF are ill-formed (Unicode 15, table 3-7).
int utf8_code_point_length(std::string_view text);

bool is_valid_utf8(std::string_view text);

/// Appends `text` as a JSON string with quotes. Ill-formed bytes become U+FFFD, so the output is
/// always valid JSON and UTF-8.
void append_json_string(std::string* out, std::string_view text);

}  // namespace mole
