// Models to measure with: published layer shapes, scaled by layers and experts, and presets of
// them. Nothing here has trained weights.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace mole::load_tests {

struct BenchModel {
  std::string shape = "v2-lite";  // one of shape_names()
  int64_t layers = 0;             // 0 = as published
  int64_t experts = 0;            // routed experts of a layer; 0 = as published
  int64_t mtp_layers = 0;         // multi-token-prediction modules after the last layer, v3 only
  std::string dtype = "bfloat16";
};

/// v2-lite (DeepSeek-V2-Lite), v3 (DeepSeek-V3), moonlight (Moonlight-16B-A3B), fixed-cost (ours:
/// as many layers and heads as V2-Lite but narrow, so that a step is mostly its fixed cost).
std::vector<std::string> shape_names();

/// lite16e (V2-Lite with 16 experts: 4.9 G parameters), lite-tiny (its kinds of layers, 4 of them
/// and narrow: 8 M parameters, for tests), fixed-cost (102 M parameters, 27 layers).
std::vector<std::string> preset_names();
/// Errors: kInvalidArgument listing the names.
StatusOr<BenchModel> preset(const std::string& name);

/// config.json: the published values of the shape with layers and experts changed.
/// Errors: kInvalidArgument naming what can't be scaled that way.
StatusOr<Json> bench_config(const BenchModel& model);

/// What a random tensor's values are like.
enum class Fill : uint8_t { kOnes, kZeros, kNormal };

struct TensorSpec {
  std::string name;
  std::vector<int64_t> shape;
  Fill fill = Fill::kNormal;
  double standard_deviation = 0;  // of kNormal
  bool always_float32 = false;    // stored so whatever the checkpoint's dtype (router biases)
  int64_t num_elements() const;
};

/// Every tensor of a checkpoint with this config.json, layer by layer. The embedding has unit
/// variance and what is added to the residual stream initializer_range / sqrt(2 layers), so that
/// hidden states stay near one and a token's own part decides where it is routed.
std::vector<TensorSpec> tensors_of(const Json& config);

}  // namespace mole::load_tests
