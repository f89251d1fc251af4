// The least that a step must move and compute, whatever computes it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/json.h"
#include "base/status.h"
#include "model/model.h"

namespace mole::load_tests {

/// Sizes of a model's parts. Bytes are of the packed form that is read, so they follow the format.
struct StepFloor {
  int64_t non_routed_bytes = 0;  // every step: all but the embedding table and routed experts
  int64_t expert_bytes = 0;      // one routed expert of one layer
  int64_t flops_per_token = 0;   // products with weights: two for each active parameter
  int64_t attention_flops = 0;   // for one token and one token of its context, all layers
  int32_t num_layers = 0, num_moe_layers = 0;

  /// `touched`: experts with at least one token, summed over layers; `context`: tokens whose
  /// entries are read, summed over sequences.
  int64_t step_bytes(int64_t touched, int64_t context, int64_t entry_bytes) const {
    return non_routed_bytes + touched * expert_bytes + context * entry_bytes * num_layers;
  }
};

/// From config.json and what the loaded model says of itself. `quantization` as in LoadOptions, but
/// resolved: none, int8, ….
StepFloor step_floor(const Json& config, const model::ModelInfo& info,
                     const std::string& quantization);

/// config.json of a checkpoint folder. Errors: those of read_file and parse_json.
StatusOr<Json> read_config(const std::filesystem::path& folder);

}  // namespace mole::load_tests
