#include "trainer/data/corpus.h"

#include <algorithm>

#include "base/file.h"
#include "base/json.h"

namespace mole::trainer {
namespace {

namespace fs = std::filesystem;

bool is_text_file(const fs::path& path) {
  return path.extension() == ".txt" || path.extension() == ".jsonl";
}

Status add_folder(const fs::path& folder, std::vector<fs::path>* files) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::recursive_directory_iterator it(folder, error), end; !error && it != end;
       it.increment(error)) {
    if (it->is_regular_file() && is_text_file(it->path())) found.push_back(it->path());
  }
  if (error) return absl::NotFoundError(folder.string() + ": " + error.message());
  if (found.empty()) {
    return absl::InvalidArgumentError(folder.string() + ": holds no *.txt or *.jsonl file");
  }
  std::sort(found.begin(), found.end());
  files->insert(files->end(), found.begin(), found.end());
  return absl::OkStatus();
}

StatusOr<std::string> text_of_line(std::string_view line) {
  MOLE_ASSIGN_OR_RETURN(const Json object, parse_json(line));
  if (!object.is_object() || !object.contains("text") || !object["text"].is_string()) {
    return absl::InvalidArgumentError("accepted: an object whose \"text\" is a string");
  }
  return object["text"].get<std::string>();
}

}  // namespace

StatusOr<std::vector<fs::path>> list_text_files(const std::vector<std::string>& inputs) {
  std::vector<fs::path> files;
  for (const std::string& input : inputs) {
    const fs::path path(input);
    if (fs::is_directory(path)) {
      MOLE_RETURN_IF_ERROR(add_folder(path, &files));
    } else if (!fs::exists(path)) {
      return absl::NotFoundError(input + ": no such file or folder");
    } else if (!is_text_file(path)) {
      return absl::InvalidArgumentError(input + ": accepted endings: .txt, .jsonl");
    } else {
      files.push_back(path);
    }
  }
  if (files.empty()) return absl::InvalidArgumentError("no input: give files or folders");
  return files;
}

Status for_each_document(const fs::path& file,
                         const std::function<Status(const std::string& document)>& use) {
  MOLE_ASSIGN_OR_RETURN(const std::string contents, read_file(file, kTextFileBytesMax));
  if (file.extension() != ".jsonl") return annotate(use(contents), file.string());

  std::string_view rest = contents;
  for (int64_t number = 1; !rest.empty(); ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const std::string where = file.string() + ":" + std::to_string(number);
    const StatusOr<std::string> text = text_of_line(line);
    if (!text.ok()) return annotate(text.status(), where);
    MOLE_RETURN_IF_ERROR(annotate(use(*text), where));
  }
  return absl::OkStatus();
}

}  // namespace mole::trainer
