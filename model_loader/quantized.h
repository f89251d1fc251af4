// Quantised tensors of a checkpoint: which format config.json says, how codes and scales lie in the
// files, and the numbers they stand for. The layout is described in docs/quantization.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/json.h"
#include "base/status.h"
#include "model_loader/tensor_view.h"

namespace mole::loader {

/// The names are those of quantization_config's "format" and of --quantization.
enum class StoredFormat : uint8_t { kNone, kInt8, kInt8Group, kInt8A16, kInt4, kFp8 };

std::string_view stored_format_name(StoredFormat format);
std::optional<StoredFormat> stored_format_of(std::string_view name);

/// What config.json's quantization_config (or none) says.
/// Errors: kInvalidArgument (a key's value, and what is accepted), kUnimplemented (a quant_method
/// that we can't read).
StatusOr<StoredFormat> read_stored_format(const Json& config);
/// The quantization_config that says it. `format` is not kNone.
Json quantization_config(StoredFormat format);

/// Codes and scales of one matrix [rows, columns], as they lie in a file (any alignment).
struct QuantizedTensor {
  StoredFormat format = StoredFormat::kNone;
  int64_t rows = 0, columns = 0;
  TensorView codes;   // int8: uint8 [rows, columns] in two's complement; int4: uint8 [rows,
                      // ceil(columns / 2)]; fp8: float8_e4m3fn [rows, columns]
  TensorView scales;  // float32; see scale_shape
};

/// Shapes that codes and scales of a matrix must have.
std::vector<int64_t> code_shape(StoredFormat format, int64_t rows, int64_t columns);
std::vector<int64_t> scale_shape(StoredFormat format, int64_t rows, int64_t columns);
DType code_dtype(StoredFormat format);
/// The name of the scales that belong to codes `name`.
std::string scale_name(StoredFormat format, const std::string& name);

/// Code times scale in float32, rounded to bfloat16 if asked for; [rows, columns] at `out`.
void dequantize(const QuantizedTensor& tensor, DType out_dtype, void* out);

}  // namespace mole::loader
