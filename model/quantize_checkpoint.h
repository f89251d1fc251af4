// Quantising a checkpoint directory ahead of serving. Knows the layout (docs/quantization.md) and
// which tensors become codes: those that `--quantization` would quantise on load, with the same
// bits.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/status.h"

namespace mole::model {

struct QuantizeOptions {
  std::string format;                      // int8, int8-g128, int8-a16, int4, fp8
  int32_t threads = 0;                     // 0 = all cores
  int64_t shard_bytes = int64_t{4} << 30;  // of one file, unless a single tensor is larger
};

struct QuantizeReport {
  int64_t tensors = 0, quantized = 0;
  int64_t bytes_before = 0, bytes_after = 0;
};

/// Writes `out` (which must not exist, or be empty): config.json with quantization_config, weights,
/// and copies of whatever else lies in `in`. Errors: kInvalidArgument (the format; a checkpoint
/// that is in it already; `out` is not empty), kDataLoss (a value is not finite), the loader's,
/// kInternal (writing).
StatusOr<QuantizeReport> quantize_checkpoint(const std::filesystem::path& in,
                                             const std::filesystem::path& out,
                                             const QuantizeOptions& options);

}  // namespace mole::model
