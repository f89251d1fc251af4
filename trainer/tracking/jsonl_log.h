// The log of a run: one JSON object a line, flushed line by line. A run that resumes at step n
// first cuts away what a killed run wrote past n (and a torn last line), so that each step stands
// once. Thread: one owner.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>

#include "base/json.h"
#include "base/status.h"

namespace mole::trainer {

class JsonlLog {
 public:
  /// Opens `path` to append, keeping the lines whose "step" is at most `keep_until_step`.
  /// Errors: kInternal.
  static StatusOr<JsonlLog> open(const std::filesystem::path& path, int64_t keep_until_step);

  /// Errors: kInternal (the write failed).
  Status write(const Json& line);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace mole::trainer
