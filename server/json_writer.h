// Appends JSON to a string: what the streaming path uses, one token a chunk, without building
// values. Numbers are printed by the shortest form that reads back as the same value, so equal
// floats print equally (lm-eval compares them as text). Thread: any.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace mole::server {

/// base's JSON string, fit for an event's one line: the line separators that some clients split at
/// (U+0085, U+2028, U+2029) are escaped too.
void append_json_string(std::string* out, std::string_view text);

void append_int(std::string* out, int64_t value);

/// A log-probability: JSON has no infinity, so what is not finite (or below) becomes -9999.0.
void append_logprob(std::string* out, float value);

/// The bytes of `text` as [1,2,3].
void append_byte_array(std::string* out, std::string_view text);

/// Code points that begin in `text` (of several pieces of one text the sum is right, however cut).
int64_t count_code_points(std::string_view text);

/// `bytes` as UTF-8, each maximal invalid part replaced by U+FFFD.
std::string replace_invalid_utf8(std::string_view bytes);

}  // namespace mole::server
