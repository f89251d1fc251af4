// Server-sent events out of bytes that arrive in any pieces. Thread: one owner.
#pragma once

#include <functional>
#include <string>
#include <string_view>

namespace mole::client {

class SseParser {
 public:
  /// `on_event` gets the data of each event (its lines joined by line breaks).
  explicit SseParser(std::function<void(const std::string& data)> on_event)
      : on_event_(std::move(on_event)) {}

  void feed(std::string_view bytes);

 private:
  void end_line();

  std::function<void(const std::string&)> on_event_;
  std::string line_;
  std::string data_;
  bool has_data_ = false;
  bool after_return_ = false;  // a line feed right after a carriage return ends no second line
};

}  // namespace mole::client
