// From an engine's options to its swap file.
#pragma once

#include <memory>

#include "base/status.h"
#include "model/model.h"
#include "runtime/engine.h"
#include "runtime/swap_device.h"

namespace mole::runtime {

/// What a page's bits depend on beside its key: the model's weights, the cache's shape and format,
/// and our arithmetic.
Sha256Digest swap_fingerprint(const model::ModelInfo& info, const model::KvCacheShape& shape);

/// Fills in kv_swap_bytes and checks the swap options against the cache's size. Errors:
/// kInvalidArgument naming the option.
Status resolve_swap(EngineOptions* options, const model::ModelInfo& info);

/// The device of options.kv_swap_file, or null if it is empty. `options` as resolve_options() gave
/// them. Errors: kInvalidArgument naming the option; kInternal.
StatusOr<std::unique_ptr<SwapDevice>> open_swap(const EngineOptions& options,
                                                const model::ModelInfo& info);

}  // namespace mole::runtime
