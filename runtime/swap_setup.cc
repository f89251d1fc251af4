#include "runtime/swap_setup.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "runtime/cache_shape.h"
#include "runtime/swap_file.h"
#include "runtime/swap_limits.h"
#include "runtime/swap_thread.h"

namespace mole::runtime {
namespace {

/// To be raised whenever a change of ours gives a cache entry other bits: pages of before are then
/// refused.
constexpr int32_t kArithmetic = 1;

uint64_t page_bytes_of(const EngineOptions& options, const model::ModelInfo& info) {
  const model::KvCacheShape one = cache_shape(options, info, 1);
  return static_cast<uint64_t>(one.block_bytes()) * static_cast<uint64_t>(info.num_layers);
}

Status refuse(const std::string& field, const std::string& value, const std::string& accepted) {
  return absl::InvalidArgumentError(field + " is " + value + "; accepted: " + accepted);
}

}  // namespace

Sha256Digest swap_fingerprint(const model::ModelInfo& info, const model::KvCacheShape& shape) {
  std::string text = "mole kv page";
  for (const std::string& part :
       {info.fingerprint, info.architecture, info.quantization, std::to_string(kArithmetic),
        std::string(dtype_name(shape.dtype)), std::string(kernels::kv_format_name(shape.format)),
        std::to_string(info.num_layers), std::to_string(shape.entry_elements),
        std::to_string(shape.rope_elements), std::to_string(model::kBlockTokens)}) {
    text += '\0' + part;
  }
  return Sha256().update(std::as_bytes(std::span(text))).finish();
}

Status resolve_swap(EngineOptions* options, const model::ModelInfo& info) {
  if (options->kv_swap_file.empty()) {
    if (options->kv_swap_bytes == 0) return absl::OkStatus();
    return refuse("kv-swap-bytes", std::to_string(options->kv_swap_bytes),
                  "0 without a kv-swap-file");
  }
  if (!options->enable_prefix_caching) {
    return refuse("kv-swap-file", options->kv_swap_file,
                  "none without enable-prefix-caching, whose pages it holds");
  }
  const uint64_t page_bytes = page_bytes_of(*options, info);
  const auto most = static_cast<int64_t>(
      SwapGeometry{page_bytes, static_cast<uint64_t>(kSwapSlotsMax)}.file_bytes());
  const auto least = static_cast<int64_t>(SwapGeometry{page_bytes, 1}.file_bytes());
  int64_t& bytes = options->kv_swap_bytes;
  if (bytes == 0) {
    const int64_t limit = std::numeric_limits<int64_t>::max() / kSwapBytesPerCacheByte;
    bytes = kSwapBytesPerCacheByte * std::min(options->kv_cache_bytes, limit);
    bytes = std::clamp(bytes, least, most);
  }
  if (bytes >= least && bytes <= most) return absl::OkStatus();
  return refuse("kv-swap-bytes", std::to_string(bytes),
                std::to_string(least) + " (one page) to " + std::to_string(most));
}

StatusOr<std::unique_ptr<SwapDevice>> open_swap(const EngineOptions& options,
                                                const model::ModelInfo& info) {
  if (options.kv_swap_file.empty()) return std::unique_ptr<SwapDevice>();
  if (info.fingerprint.empty()) {
    return refuse("kv-swap-file", options.kv_swap_file,
                  "none with a model that was loaded without a fingerprint");
  }
  const uint64_t page_bytes = page_bytes_of(options, info);
  const SwapGeometry geometry{
      page_bytes, SwapGeometry::slots_in(static_cast<uint64_t>(options.kv_swap_bytes), page_bytes)};
  MOLE_ASSIGN_OR_RETURN(auto file, SwapFile::open(options.kv_swap_file, geometry));
  return std::make_unique<SwapThread>(std::move(file),
                                      swap_fingerprint(info, cache_shape(options, info, 1)),
                                      info.num_layers, page_bytes);
}

}  // namespace mole::runtime
