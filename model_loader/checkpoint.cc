#include "model_loader/checkpoint.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "base/file.h"

namespace mole::loader {
namespace {

namespace fs = std::filesystem;

constexpr size_t kConfigBytesMax = size_t{1} << 20;
constexpr size_t kIndexBytesMax = size_t{64} << 20;
constexpr size_t kShardsMax = 10'000;
constexpr size_t kWeightsMax = 1'000'000;  // tensors of one checkpoint
constexpr size_t kProblemsShown = 20;
constexpr JsonLimits kIndexLimits = {
    .depth_max = 8, .nodes_max = 2 * kWeightsMax + 1000, .object_keys_max = kWeightsMax};
constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

using WeightMap = std::map<std::string, std::string>;  // tensor -> file name

Status all_problems(const fs::path& folder, const std::vector<std::string>& problems) {
  if (problems.empty()) return absl::OkStatus();
  std::string text = folder.string() + ": ";
  for (size_t i = 0; i < std::min(problems.size(), kProblemsShown); ++i) {
    text += (i == 0 ? "" : "; ") + problems[i];
  }
  if (problems.size() > kProblemsShown) {
    text += "; and " + std::to_string(problems.size() - kProblemsShown) + " problems more";
  }
  return absl::DataLossError(text);
}

StatusOr<Json> read_config(const fs::path& path) {
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(path, kConfigBytesMax));
  StatusOr<Json> config = parse_json(text);
  if (!config.ok()) return annotate(config.status(), path.string());
  if (!config->is_object()) {
    return absl::InvalidArgumentError(path.string() + ": must be a JSON object");
  }
  return config;
}

// A shard lies beside its index: a bare name, so that an index can't name files elsewhere.
bool is_shard_name(const std::string& name) {
  constexpr std::string_view kEnding = ".safetensors";
  return name.size() > kEnding.size() && name.size() <= 255 && name.ends_with(kEnding) &&
         name.front() != '.' && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

StatusOr<WeightMap> read_index(const fs::path& path) {
  const auto wrong = [&](const std::string& what) {
    return absl::DataLossError(path.string() + ": " + what);
  };
  StatusOr<std::string> text = read_file(path, kIndexBytesMax);
  if (!text.ok()) return wrong(std::string(text.status().message()));
  StatusOr<Json> index = parse_json(*text, kIndexLimits);
  if (!index.ok()) return wrong(std::string(index.status().message()));
  if (!index->is_object() || !index->contains("weight_map") ||
      !(*index)["weight_map"].is_object()) {
    return wrong("must be an object with an object weight_map");
  }
  WeightMap map;
  std::set<std::string> files;
  for (const auto& [tensor, file] : (*index)["weight_map"].items()) {
    if (!file.is_string() || !is_shard_name(file.get_ref<const std::string&>())) {
      return wrong("weight_map of " + quoted_name(tensor) + " is " + quoted_name(file.dump()) +
                   "; a bare file name ending in .safetensors is accepted");
    }
    files.insert(file.get<std::string>());
    map.emplace(tensor, file.get<std::string>());
  }
  if (map.empty()) return wrong("weight_map is empty");
  if (files.size() > kShardsMax) {
    return wrong("names " + std::to_string(files.size()) + " files; at most " +
                 std::to_string(kShardsMax) + " are accepted");
  }
  return map;
}

bool present(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

}  // namespace

void Checkpoint::add_file(const std::string& name, std::vector<std::string>* problems) {
  StatusOr<SafetensorsFile> file = SafetensorsFile::open(folder_ / name);
  if (!file.ok()) {
    problems->emplace_back(file.status().message());
    return;
  }
  for (const auto& [tensor, view] : file->tensors()) {
    if (!tensors_.emplace(tensor, view).second) {
      problems->push_back("tensor " + quoted_name(tensor) + " is in " + name +
                          " and in another shard");
    }
    weight_bytes_ += static_cast<int64_t>(view.bytes.size());
  }
  files_.push_back(std::move(file).value());
}

Status Checkpoint::add_shards() {
  StatusOr<WeightMap> map = read_index(folder_ / kIndexFile);
  if (!map.ok()) return map.status();
  std::map<std::string, std::vector<std::string>> tensors_of;  // file -> what the index says it has
  for (const auto& [tensor, file] : *map) tensors_of[file].push_back(tensor);
  std::vector<std::string> problems;
  for (const auto& [file, tensors] : tensors_of) {
    const size_t opened = files_.size();
    add_file(file, &problems);
    if (files_.size() == opened) continue;  // its own problem is noted
    const auto& held = files_.back().tensors();
    for (const std::string& tensor : tensors) {
      if (!held.contains(tensor)) {
        problems.push_back("the index places tensor " + quoted_name(tensor) + " in " + file +
                           ", which does not hold it");
      }
    }
    for (const auto& [tensor, view] : held) {
      if (!map->contains(tensor)) {
        problems.push_back("tensor " + quoted_name(tensor) + " of " + file +
                           " is not in the index");
      }
    }
  }
  return all_problems(folder_, problems);
}

Status Checkpoint::add_weights() {
  const bool single = present(folder_ / kSingleFile);
  const bool sharded = present(folder_ / kIndexFile);
  if (single && sharded) {
    return absl::DataLossError(folder_.string() + " holds both " + kSingleFile + " and " +
                               kIndexFile + "; remove the one that is not meant");
  }
  if (sharded) return add_shards();
  if (!single) {
    return absl::NotFoundError(folder_.string() + " holds neither " + kSingleFile + " nor " +
                               kIndexFile);
  }
  std::vector<std::string> problems;
  add_file(kSingleFile, &problems);
  return problems.empty() ? absl::OkStatus() : absl::DataLossError(problems.front());
}

StatusOr<std::shared_ptr<const Checkpoint>> Checkpoint::open(const fs::path& folder) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    return absl::NotFoundError("checkpoint " + folder.string() + " is not a folder");
  }
  auto checkpoint = std::make_shared<Checkpoint>();
  checkpoint->folder_ = folder;
  MOLE_ASSIGN_OR_RETURN(checkpoint->config_, read_config(folder / "config.json"));
  StatusOr<StoredFormat> format = read_stored_format(checkpoint->config_);
  if (!format.ok()) return annotate(format.status(), folder.string());
  checkpoint->stored_format_ = *format;
  MOLE_RETURN_IF_ERROR(checkpoint->add_weights());
  return checkpoint;
}

}  // namespace mole::loader
