// Architectures by name: adding one is a folder under model/ and one line in registry.cc.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "model/model.h"
#include "model/workspace.h"

namespace mole::model {

struct LoadOptions {
  std::string dtype = "auto";  // auto (config.json's torch_dtype), float32, bfloat16
  /// auto (quantised tensors stay so), none, int8, int8-g128, int8-a16, int4, fp8.
  std::string quantization = "auto";
  int32_t threads = 0;  // of the kernels' team; 0 = all cores
  /// Loads the multi-token-prediction module, so that Model::draft works. A checkpoint without one
  /// (num_nextn_predict_layers 0 or absent) is then refused. The cache must have
  /// ModelInfo::cache_layers() layers.
  bool mtp = false;
  /// Fills ModelInfo::fingerprint, which costs a look at every tensor's page.
  bool fingerprint = false;
  /// The most tokens that a step will have: working memory is made for so many at once, in the
  /// first step. 0 = as steps come.
  int32_t max_step_tokens = 0;
};

/// Reads the checkpoint directory, checks everything, packs the weights.
/// Errors: kNotFound, kInvalidArgument (config.json: key, value, accepted; or tensors that don't
/// fit it: all missing, unused and misshapen ones), kDataLoss (a corrupt file), kUnimplemented (an
/// architecture we don't have; lists those we have).
StatusOr<std::unique_ptr<Model>> load_model(const std::filesystem::path& folder,
                                            const LoadOptions& options);

/// What load_model will take, found from config.json and the headers of the weights' files alone.
struct LoadPlan {
  ModelInfo info;                // as the loaded model will say it; weight_bytes included
  int64_t checkpoint_bytes = 0;  // of weights, in the files
  int64_t table_bytes = 0;       // rotary embedding, float32
  int64_t transient_bytes = 0;   // while loading, above what stays: matrices not yet packed
  WorkspaceShape workspace;      // of a step
};

/// Reads no weight and takes next to no memory. Errors: load_model's, but for those that only
/// reading a weight shows.
StatusOr<LoadPlan> plan_load(const std::filesystem::path& folder, const LoadOptions& options);

/// model_type values of config.json that load_model accepts.
std::vector<std::string> architectures();

}  // namespace mole::model
