// What the KV cache looks like for an engine's options and a model.
#pragma once

#include <string_view>

#include "base/status.h"
#include "model/model.h"
#include "runtime/engine.h"

namespace mole::runtime {

/// The format that --kv-cache-dtype names: "auto" and the model's own type keep the model's
/// numbers, "int8" and "fp8" compress them. Errors: kInvalidArgument (another type than the
/// model's, a model that can't, an unknown name).
StatusOr<kernels::KvFormat> cache_format(std::string_view kv_cache_dtype,
                                         const model::ModelInfo& info);

/// A cache of `num_blocks` blocks. Requires a kv_cache_dtype that cache_format() accepts.
model::KvCacheShape cache_shape(const EngineOptions& options, const model::ModelInfo& info,
                                int64_t num_blocks);

/// Blocks that fit into options.kv_cache_bytes. Requires the same.
int64_t num_cache_blocks(const EngineOptions& options, const model::ModelInfo& info);

}  // namespace mole::runtime
