#include "trainer/checkpoint_store.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <random>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/log.h"

namespace mole::trainer {
namespace {

namespace fs = std::filesystem;

constexpr size_t kManifestBytesMax = 16u << 20;
constexpr const char* kManifestName = "MANIFEST.json";
constexpr const char* kTmpMark = ".tmp-";
constexpr const char* kStepPrefix = "step-";

std::string random_suffix() {
  std::random_device device;
  char text[20];
  std::snprintf(text, sizeof(text), "%08x%08x", device(), device());
  return text;
}

/// "step-000000500" to 500; nullopt for any other name.
std::optional<int64_t> step_of(const std::string& name) {
  const std::string prefix = kStepPrefix;
  if (name.rfind(prefix, 0) != 0) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto [at, code] = std::from_chars(name.data() + prefix.size(), end, step);
  if (code != std::errc() || at != end) return std::nullopt;
  return step;
}

Status io_error(const fs::path& path, const std::string& what, const std::error_code& error) {
  return absl::InternalError(path.string() + ": cannot " + what + ": " + error.message());
}

/// Takes `path` away under a name that recovery ignores, then deletes it: a deletion that is cut
/// short never leaves half a checkpoint under a final name. Failing is harmless, the sweep comes
/// again.
void remove_folder(const fs::path& path) {
  std::error_code error;
  fs::path doomed = path;
  if (path.filename().string().find(kTmpMark) == std::string::npos) {
    doomed += kTmpMark + random_suffix();
    fs::rename(path, doomed, error);
    if (error) return;
  }
  fs::remove_all(doomed, error);
}

Status check_space(const fs::path& folder, const std::map<std::string, TensorViews>& files) {
  uintmax_t bytes = 1u << 20;  // manifest and headers
  for (const auto& [name, tensors] : files) {
    for (const auto& [tensor_name, tensor] : tensors) bytes += tensor.bytes.size();
  }
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  const uintmax_t needed = bytes + bytes / 10;
  if (error || space.available >= needed) return absl::OkStatus();
  return absl::ResourceExhaustedError(folder.string() + ": a checkpoint needs " +
                                      std::to_string(needed) + " bytes, the disk has " +
                                      std::to_string(space.available));
}

/// Digest of everything in the manifest but the digest itself.
std::string manifest_digest(Json manifest) {
  manifest.erase("digest");
  const std::string text = manifest.dump();
  return sha256_hex(std::as_bytes(std::span(text)));
}

Status corrupt(const fs::path& path, const std::string& what) {
  return absl::DataLossError(path.string() + ": " + what);
}

StatusOr<Json> read_manifest(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kManifestName;
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(path, kManifestBytesMax));
  const StatusOr<Json> manifest = parse_json(text);
  if (!manifest.ok()) return corrupt(path, std::string(manifest.status().message()));
  if (!manifest->is_object() || manifest->value("format", "") != "mole-checkpoint" ||
      manifest->value("version", 0) != 1) {
    return corrupt(path, "not a checkpoint manifest of version 1");
  }
  if (manifest->value("digest", "") != manifest_digest(*manifest)) {
    return corrupt(path, "its digest does not hold");
  }
  return *manifest;
}

Status check_file(const fs::path& path, const Json& entry) {
  MOLE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::open(path));
  if (file.bytes().size() != entry.at("bytes").get<size_t>()) {
    return corrupt(path, "has " + std::to_string(file.bytes().size()) +
                             " bytes, the manifest says " + entry.at("bytes").dump());
  }
  if (sha256_hex(file.bytes()) != entry.at("sha256").get<std::string>()) {
    return corrupt(path, "SHA-256 differs from the manifest's");
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<CheckpointStore> CheckpointStore::open(const fs::path& folder, int64_t keep) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) return io_error(folder, "create", error);
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    if (entry.path().filename().string().find(kTmpMark) == std::string::npos) continue;
    std::error_code ignored;  // what can't be deleted now is swept at the next start
    fs::remove_all(entry.path(), ignored);
  }
  if (error) return io_error(folder, "list", error);
  CheckpointStore store;
  store.folder_ = folder;
  store.keep_ = std::max<int64_t>(keep, 2);
  return store;
}

fs::path CheckpointStore::step_folder(int64_t step) const {
  char name[32];
  std::snprintf(name, sizeof(name), "%s%09lld", kStepPrefix, static_cast<long long>(step));
  return folder_ / name;
}

std::vector<int64_t> CheckpointStore::steps() const {
  std::vector<int64_t> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder_, error)) {
    const auto step = step_of(entry.path().filename().string());
    if (step.has_value()) found.push_back(*step);
  }
  std::sort(found.begin(), found.end());
  return found;
}

Status CheckpointStore::write_tmp(const fs::path& tmp, int64_t step,
                                  const std::map<std::string, TensorViews>& files,
                                  const Json& state) const {
  std::error_code error;
  if (!fs::create_directory(tmp, error)) return io_error(tmp, "create", error);
  Json manifest = {{"format", "mole-checkpoint"},
                   {"version", 1},
                   {"step", step},
                   {"state", state},
                   {"files", Json::object()}};
  for (const auto& [name, tensors] : files) {
    MOLE_RETURN_IF_ERROR(loader::write_safetensors(tmp / name, tensors));
    // The digest is of what the file system gives back, not of what we meant to write.
    MOLE_ASSIGN_OR_RETURN(const MappedFile written, MappedFile::open(tmp / name));
    manifest["files"][name] = {{"bytes", written.bytes().size()},
                               {"sha256", sha256_hex(written.bytes())}};
  }
  manifest["digest"] = manifest_digest(manifest);
  return write_file_atomic(tmp / kManifestName, manifest.dump(2) + "\n");  // syncs `tmp` too
}

Status CheckpointStore::commit(const fs::path& tmp, int64_t step) const {
  const fs::path final_path = step_folder(step);
  std::error_code error;
  if (fs::exists(final_path, error)) remove_folder(final_path);  // a broken one: save() checked
  fs::rename(tmp, final_path, error);
  if (error) return io_error(final_path, "rename onto", error);
  return sync_folder(folder_);
}

void CheckpointStore::remove_old(int64_t newest_step) const {
  std::vector<int64_t> older = steps();
  std::erase_if(older, [&](int64_t step) { return step > newest_step; });
  for (size_t i = 0; i + static_cast<size_t>(keep_) < older.size(); ++i) {
    remove_folder(step_folder(older[i]));
  }
}

Status CheckpointStore::save(int64_t step, const std::map<std::string, TensorViews>& files,
                             const Json& state) {
  if (load(step_folder(step)).ok()) return absl::OkStatus();
  MOLE_RETURN_IF_ERROR(check_space(folder_, files));
  fs::path tmp = step_folder(step);
  tmp += kTmpMark + random_suffix();
  Status status = write_tmp(tmp, step, files, state);
  if (status.ok()) status = commit(tmp, step);
  if (!status.ok()) {
    remove_folder(tmp);
    return status;
  }
  const std::string name = step_folder(step).filename().string();
  const Status hint = write_file_atomic(folder_ / "LATEST", name + "\n");
  if (!hint.ok()) log::warn("LATEST not written", {{"error", std::string(hint.message())}});
  remove_old(step);
  return absl::OkStatus();
}

StatusOr<LoadedCheckpoint> CheckpointStore::load(const fs::path& checkpoint) {
  MOLE_ASSIGN_OR_RETURN(const Json manifest, read_manifest(checkpoint));
  LoadedCheckpoint loaded;
  loaded.folder = checkpoint;
  try {
    loaded.step = manifest.at("step").get<int64_t>();
    loaded.state = manifest.at("state");
    for (const auto& [name, entry] : manifest.at("files").items()) {
      MOLE_RETURN_IF_ERROR(check_file(checkpoint / name, entry));
      MOLE_ASSIGN_OR_RETURN(auto file, loader::SafetensorsFile::open(checkpoint / name));
      loaded.files.emplace(name, std::move(file));
    }
  } catch (const Json::exception& error) {
    return corrupt(checkpoint / kManifestName, error.what());
  }
  return loaded;
}

StatusOr<LoadedCheckpoint> CheckpointStore::newest_in(const fs::path& folder) {
  CheckpointStore store;
  store.folder_ = folder;
  MOLE_ASSIGN_OR_RETURN(auto newest, store.load_newest());
  if (!newest.has_value()) return absl::NotFoundError(folder.string() + ": holds no checkpoint");
  return std::move(*newest);
}

StatusOr<std::optional<LoadedCheckpoint>> CheckpointStore::load_newest() const {
  const std::vector<int64_t> found = steps();
  for (auto step = found.rbegin(); step != found.rend(); ++step) {
    StatusOr<LoadedCheckpoint> loaded = load(step_folder(*step));
    if (loaded.ok()) return std::optional(std::move(*loaded));
    log::warn("checkpoint rejected, falling back to the one before",
              {{"step", *step}, {"reason", std::string(loaded.status().message())}});
  }
  if (found.empty()) return std::optional<LoadedCheckpoint>();
  return absl::DataLossError(folder_.string() + ": none of the " + std::to_string(found.size()) +
                             " checkpoints is whole");
}

}  // namespace mole::trainer
