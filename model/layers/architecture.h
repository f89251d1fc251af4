// What an architecture gives: its model_type and how to build a decoder from config.json. The table
// of all of them is in registry.cc.
#pragma once

#include <memory>
#include <string>

#include "base/json.h"
#include "base/status.h"
#include "model/layers/config_reader.h"
#include "model/layers/decoder.h"
#include "model/layers/parameters.h"

namespace mole::model {

struct Architecture {
  const char* model_type;
  /// Checks the whole configuration first, then asks `parameters` for everything.
  /// Errors: kInvalidArgument with all problems.
  StatusOr<std::unique_ptr<Decoder>> (*build)(const Json& config, ParameterFactory& parameters);
  /// Adds the multi-token-prediction module to a decoder that `build` made; null if the
  /// architecture has none. Errors: kInvalidArgument if this checkpoint has none.
  Status (*add_mtp)(const Json& config, ParameterFactory& parameters, Decoder& decoder) = nullptr;
};

/// The architecture of config.json's model_type. Errors: kInvalidArgument (no model_type),
/// kUnimplemented (lists those we have).
StatusOr<const Architecture*> find_architecture(const Json& config);

/// The dtype that `option` (auto, float32, bfloat16) means for this config.json. auto takes
/// torch_dtype (or dtype); float16 becomes float32, which holds it exactly. Errors:
/// kInvalidArgument.
StatusOr<DType> resolve_dtype(const Json& config, const std::string& option);

/// Fields of ModelInfo that all architectures read alike.
ModelInfo read_common_info(ConfigReader& reader, const std::string& architecture);

}  // namespace mole::model
