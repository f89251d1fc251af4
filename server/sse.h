// Server-sent events as OpenAI's clients read them: every event is one line of JSON after "data: ".
#pragma once

#include <string>
#include <string_view>

namespace mole::server {

inline constexpr std::string_view kSseContentType = "text/event-stream; charset=utf-8";
/// A comment line: clients skip it, proxies see life.
inline constexpr std::string_view kSseHeartbeat = ": ping\n\n";
inline constexpr std::string_view kSseDone = "data: [DONE]\n\n";

/// Appends one event; `json` must hold no line break (the JSON writer escapes them).
inline void append_event(std::string* out, std::string_view json) {
  out->append("data: ");
  out->append(json);
  out->append("\n\n");
}

}  // namespace mole::server
