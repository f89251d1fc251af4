#include "trainer/tracking/jsonl_log.h"

#include <string>

#include "base/file.h"

namespace mole::trainer {
namespace {

constexpr size_t kLogBytesMax = size_t{1} << 32;

StatusOr<std::string> lines_until(const std::filesystem::path& path, int64_t step) {
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(path, kLogBytesMax));
  std::string kept;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = text.find('\n', begin);
    if (end == std::string::npos) break;  // torn by a kill
    const std::string line = text.substr(begin, end - begin + 1);
    const StatusOr<Json> object = parse_json(line);
    if (object.ok() && object->is_object() && object->value("step", int64_t{0}) <= step)
      kept += line;
    begin = end + 1;
  }
  return kept;
}

}  // namespace

StatusOr<JsonlLog> JsonlLog::open(const std::filesystem::path& path, int64_t keep_until_step) {
  if (std::filesystem::exists(path)) {
    MOLE_ASSIGN_OR_RETURN(const std::string kept, lines_until(path, keep_until_step));
    MOLE_RETURN_IF_ERROR(write_file_atomic(path, kept));
  }
  JsonlLog log;
  log.path_ = path;
  log.file_.open(path, std::ios::app);
  if (!log.file_) return absl::InternalError(path.string() + ": cannot open to append");
  return log;
}

Status JsonlLog::write(const Json& line) {
  file_ << line.dump() << '\n' << std::flush;
  if (!file_) return absl::InternalError(path_.string() + ": cannot write");
  return absl::OkStatus();
}

}  // namespace mole::trainer
