#include "runtime/cache_shape.h"

#include <string>

namespace mole::runtime {

using kernels::KvFormat;

StatusOr<KvFormat> cache_format(std::string_view kv_cache_dtype, const model::ModelInfo& info) {
  const std::string_view own = dtype_name(info.dtype);
  if (kv_cache_dtype == "auto" || kv_cache_dtype == own) return KvFormat::kModel;
  if (info.kv_compressible && kv_cache_dtype == "int8") return KvFormat::kInt8;
  if (info.kv_compressible && kv_cache_dtype == "fp8") return KvFormat::kFp8;
  return absl::InvalidArgumentError("kv-cache-dtype is " + std::string(kv_cache_dtype) +
                                    "; accepted for this " + info.architecture + " model: auto, " +
                                    std::string(own) + (info.kv_compressible ? ", int8, fp8" : ""));
}

model::KvCacheShape cache_shape(const EngineOptions& options, const model::ModelInfo& info,
                                int64_t num_blocks) {
  return {.num_layers = info.cache_layers(),
          .num_blocks = num_blocks,
          .entry_elements = info.kv_entry_elements,
          .dtype = info.dtype,
          .format = cache_format(options.kv_cache_dtype, info).value(),
          .rope_elements = info.kv_rope_elements};
}

int64_t num_cache_blocks(const EngineOptions& options, const model::ModelInfo& info) {
  return options.kv_cache_bytes / cache_shape(options, info, 1).total_bytes();
}

}  // namespace mole::runtime
