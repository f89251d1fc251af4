// Checkpoints of a run that survive a kill or a power cut at any instant.
//
//   RUN/checkpoints/step-000000500/parameters.safetensors  tensors, whatever the caller gives
//                                 /MANIFEST.json           step, state, bytes and SHA-256 of each
//                                 file,
//                                                          and a digest of the manifest itself
//   RUN/checkpoints/LATEST                                 a hint for people; recovery never reads
//   it
//
// A save writes into step-N.tmp-<random>, syncs every file, then the manifest, then the folder,
// renames it to step-N and syncs the parent: what bears the final name is whole. Only then are
// older checkpoints removed. A failed save removes its own folder and harms nothing. Thread: one
// owner.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "model_loader/safetensors.h"
#include "model_loader/tensor_view.h"

namespace mole::trainer {

using TensorViews = std::map<std::string, loader::TensorView>;

struct LoadedCheckpoint {
  std::filesystem::path folder;
  int64_t step = 0;
  Json state;                                            // as given to save()
  std::map<std::string, loader::SafetensorsFile> files;  // by file name; views into the maps
};

class CheckpointStore {
 public:
  /// Makes `folder` if missing and sweeps what killed saves left there. Errors: kInternal.
  static StatusOr<CheckpointStore> open(const std::filesystem::path& folder, int64_t keep);

  /// Commits a checkpoint of `step`; a valid one of this step that is already there is kept as it
  /// is. Errors: kResourceExhausted (not enough space, found before writing), kInternal (I/O).
  Status save(int64_t step, const std::map<std::string, TensorViews>& files, const Json& state);

  /// The newest checkpoint whose manifest and digests hold; each rejected one is logged as a
  /// warning. Nullopt if there is none at all. Errors: kDataLoss if there are some but none is
  /// whole.
  StatusOr<std::optional<LoadedCheckpoint>> load_newest() const;

  /// Verifies and opens one checkpoint folder. Errors: kNotFound, kDataLoss naming file and reason.
  static StatusOr<LoadedCheckpoint> load(const std::filesystem::path& checkpoint);

  /// The same for whoever only reads `folder`: nothing is swept, a running trainer is not
  /// disturbed. Errors: kNotFound (no checkpoint), kDataLoss.
  static StatusOr<LoadedCheckpoint> newest_in(const std::filesystem::path& folder);

  /// Steps that have a folder, ascending, whole or not.
  std::vector<int64_t> steps() const;
  std::filesystem::path step_folder(int64_t step) const;

 private:
  Status write_tmp(const std::filesystem::path& tmp, int64_t step,
                   const std::map<std::string, TensorViews>& files, const Json& state) const;
  Status commit(const std::filesystem::path& tmp, int64_t step) const;
  void remove_old(int64_t newest_step) const;

  std::filesystem::path folder_;
  int64_t keep_ = 2;
};

}  // namespace mole::trainer
