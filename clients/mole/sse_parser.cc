#include "clients/mole/sse_parser.h"

namespace mole::client {

void SseParser::feed(std::string_view bytes) {
  for (char c : bytes) {
    if (c == '\n' && after_return_) {
      after_return_ = false;
      continue;
    }
    after_return_ = c == '\r';
    if (c == '\n' || c == '\r') {
      end_line();
    } else {
      line_ += c;
    }
  }
}

void SseParser::end_line() {
  if (line_.empty()) {
    if (has_data_) on_event_(data_);
    data_.clear();
    has_data_ = false;
    return;
  }
  constexpr std::string_view kData = "data:";
  if (line_.rfind(kData, 0) == 0) {  // other fields, and comments (":"), say nothing to us
    std::string_view value = std::string_view(line_).substr(kData.size());
    if (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += value;
    has_data_ = true;
  }
  line_.clear();
}

}  // namespace mole::client
