#include "model_loader/quantized.h"

#include <cstring>

#include "base/check.h"
#include "model_loader/convert.h"

namespace mole::loader {
namespace {

constexpr int64_t kGroup = 128;  // columns that share a scale; rows too for fp8
constexpr const char* kConfigKey = "quantization_config";
constexpr const char* kOwnMethod = "mole";

struct Name {
  StoredFormat format;
  std::string_view name;
};
constexpr Name kNames[] = {
    {StoredFormat::kNone, "none"},           {StoredFormat::kInt8, "int8"},
    {StoredFormat::kInt8Group, "int8-g128"}, {StoredFormat::kInt8A16, "int8-a16"},
    {StoredFormat::kInt4, "int4"},           {StoredFormat::kFp8, "fp8"},
};

int64_t groups(int64_t count) { return (count + kGroup - 1) / kGroup; }

Status refuse(const std::string& key, const Json& value, const std::string& accepted) {
  return absl::InvalidArgumentError("config.json: " + std::string(kConfigKey) + "." + key + " is " +
                                    quoted_name(value.dump()) + "; accepted: " + accepted);
}

/// DeepSeek's: e4m3, blocks of 128 by 128.
Status check_fp8(const Json& config) {
  const Json fmt = config.value("fmt", Json("e4m3"));
  if (fmt != "e4m3") return refuse("fmt", fmt, "\"e4m3\"");
  const Json block = config.value("weight_block_size", Json());
  if (block != Json({kGroup, kGroup})) return refuse("weight_block_size", block, "[128, 128]");
  const Json scheme = config.value("activation_scheme", Json("dynamic"));
  if (scheme != "dynamic") return refuse("activation_scheme", scheme, "\"dynamic\"");
  return absl::OkStatus();
}

StatusOr<StoredFormat> read_own(const Json& config) {
  const Json name = config.value("format", Json());
  const auto format =
      name.is_string() ? stored_format_of(name.get_ref<const std::string&>()) : std::nullopt;
  if (!format.has_value() || *format == StoredFormat::kNone || *format == StoredFormat::kFp8) {
    return refuse("format", name, "\"int8\", \"int8-g128\", \"int8-a16\", \"int4\"");
  }
  return *format;
}

float load_scale(const TensorView& scales, int64_t index) {
  float scale;
  std::memcpy(&scale, scales.bytes.data() + index * int64_t{sizeof(float)}, sizeof(scale));
  return scale;
}

/// An int8 or int4 code.
int integer_code(const QuantizedTensor& tensor, int64_t row, int64_t column) {
  const std::byte* codes = tensor.codes.bytes.data() + row * tensor.codes.shape[1];
  if (tensor.format != StoredFormat::kInt4) {
    return static_cast<int8_t>(std::to_integer<uint8_t>(codes[column]));
  }
  const int pair = std::to_integer<int>(codes[column / 2]);
  return (column % 2 == 0 ? pair & 15 : pair >> 4) - 8;
}

}  // namespace

std::string_view stored_format_name(StoredFormat format) {
  for (const Name& entry : kNames) {
    if (entry.format == format) return entry.name;
  }
  return "unknown";
}

std::optional<StoredFormat> stored_format_of(std::string_view name) {
  for (const Name& entry : kNames) {
    if (entry.name == name) return entry.format;
  }
  return std::nullopt;
}

StatusOr<StoredFormat> read_stored_format(const Json& config) {
  const auto found = config.find(kConfigKey);
  if (found == config.end() || found->is_null()) return StoredFormat::kNone;
  if (!found->is_object()) {
    return absl::InvalidArgumentError("config.json: " + std::string(kConfigKey) +
                                      " must be an object");
  }
  const Json method = found->value("quant_method", Json());
  if (method == kOwnMethod) return read_own(*found);
  if (method == "fp8") {
    MOLE_RETURN_IF_ERROR(check_fp8(*found));
    return StoredFormat::kFp8;
  }
  return absl::UnimplementedError(
      refuse("quant_method", method, "\"fp8\" (blocks of 128 by 128), \"mole\"").message());
}

Json quantization_config(StoredFormat format) {
  MOLE_CHECK(format != StoredFormat::kNone);
  if (format == StoredFormat::kFp8) {
    return {{"quant_method", "fp8"},
            {"fmt", "e4m3"},
            {"weight_block_size", {kGroup, kGroup}},
            {"activation_scheme", "dynamic"}};
  }
  return {{"quant_method", kOwnMethod}, {"format", std::string(stored_format_name(format))}};
}

std::vector<int64_t> code_shape(StoredFormat format, int64_t rows, int64_t columns) {
  return {rows, format == StoredFormat::kInt4 ? (columns + 1) / 2 : columns};
}

std::vector<int64_t> scale_shape(StoredFormat format, int64_t rows, int64_t columns) {
  if (format == StoredFormat::kFp8) return {groups(rows), groups(columns)};
  return {rows, format == StoredFormat::kInt8 ? 1 : groups(columns)};
}

DType code_dtype(StoredFormat format) {
  return format == StoredFormat::kFp8 ? DType::kFloat8E4M3 : DType::kUInt8;
}

std::string scale_name(StoredFormat format, const std::string& name) {
  return name + (format == StoredFormat::kFp8 ? "_scale_inv" : "_scale");
}

void dequantize(const QuantizedTensor& tensor, DType out_dtype, void* out) {
  if (tensor.format == StoredFormat::kFp8) {
    return convert_fp8_blocks(tensor.codes, tensor.scales, out_dtype, out);
  }
  const int64_t scales_across = tensor.scales.shape[1];
  for (int64_t row = 0; row < tensor.rows; ++row) {
    for (int64_t column = 0; column < tensor.columns; ++column) {
      const int64_t group = tensor.format == StoredFormat::kInt8 ? 0 : column / kGroup;
      const float value = static_cast<float>(integer_code(tensor, row, column)) *
                          load_scale(tensor.scales, row * scales_across + group);
      const int64_t i = row * tensor.columns + column;
      if (out_dtype == DType::kFloat32) {
        static_cast<float*>(out)[i] = value;
      } else {
        static_cast<BFloat16*>(out)[i] = to_bfloat16(value);
      }
    }
  }
}

}  // namespace mole::loader
