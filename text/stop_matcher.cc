#include <algorithm>
#include <utility>

#include "text/detokenizer.h"

namespace mole::text {

// Knuth, Morris and Pratt's matcher for each stop string: the bytes of it that the stream ends in
// are exactly what has to be held back for it.
StopMatcher::StopMatcher(std::vector<std::string> stops, bool include_stop_in_output)
    : include_stop_in_output_(include_stop_in_output) {
  for (std::string& text : stops) {
    if (text.empty()) continue;
    Stop stop{std::move(text), {}, 0};
    stop.fallback.assign(stop.text.size(), 0);
    for (size_t i = 1, length = 0; i < stop.text.size(); ++i) {
      while (length > 0 && stop.text[i] != stop.text[length]) length = stop.fallback[length - 1];
      if (stop.text[i] == stop.text[length]) ++length;
      stop.fallback[i] = length;
    }
    stops_.push_back(std::move(stop));
  }
}

void StopMatcher::advance(Stop& stop, char next) {
  while (stop.matched > 0 && stop.text[stop.matched] != next) {
    stop.matched = stop.fallback[stop.matched - 1];
  }
  if (stop.text[stop.matched] == next) ++stop.matched;
}

StopMatcher::Result StopMatcher::push(std::string_view text) {
  if (!found_.empty()) return {"", true, found_};
  for (size_t i = 0; i < text.size(); ++i) {
    const Stop* longest = nullptr;
    for (Stop& stop : stops_) {
      advance(stop, text[i]);
      const bool complete = stop.matched == stop.text.size();
      if (complete && (!longest || stop.text.size() > longest->text.size())) longest = &stop;
    }
    if (!longest) continue;
    found_ = longest->text;
    std::string before = std::exchange(held_, {});
    before += text.substr(0, i + 1);
    if (!include_stop_in_output_) before.resize(before.size() - found_.size());
    return {std::move(before), true, found_};
  }
  held_ += text;
  size_t hold = 0;
  for (const Stop& stop : stops_) hold = std::max(hold, stop.matched);
  std::string send = held_.substr(0, held_.size() - hold);
  held_.erase(0, held_.size() - hold);
  return {std::move(send), false, ""};
}

std::string StopMatcher::finish() { return std::exchange(held_, {}); }

}  // namespace mole::text
