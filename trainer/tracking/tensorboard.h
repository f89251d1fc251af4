// TensorBoard event files: records [u64 length][u32 masked crc of it][Event][u32 masked crc], the
// Event a protobuf message that we encode by hand: wall_time = 1 (double), step = 2 (int64),
// file_version = 3 (string), summary = 5 { value = 1 { tag = 1 (string), simple_value = 2 (float) }
// }. Thread: one owner.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"

namespace mole::trainer {

using Scalars = std::vector<std::pair<std::string, double>>;  // tag, value

class TensorBoardWriter {
 public:
  /// Opens a new file events.out.tfevents.<seconds>.<pid> in `folder` (made if missing).
  /// Errors: kInternal.
  static StatusOr<TensorBoardWriter> create(const std::filesystem::path& folder);

  /// One event with all `scalars`, flushed. Errors: kInternal (the write failed).
  Status add(int64_t step, const Scalars& scalars);

  const std::filesystem::path& path() const { return path_; }

 private:
  Status write_record(const std::string& event);
  std::filesystem::path path_;
  std::ofstream file_;
};

}  // namespace mole::trainer
