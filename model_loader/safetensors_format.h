// Names and bounds of the safetensors format, shared by its reader and writer only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "base/dtype.h"

namespace mole::loader {

inline constexpr size_t kLengthBytes = 8;                 // u64 before the header
inline constexpr uint64_t kHeaderBytesMax = 100'000'000;  // the format's own bound
inline constexpr size_t kTensorsMax = 200'000;            // in one file
inline constexpr size_t kDimensionsMax = 8;
inline constexpr size_t kDataAlignment = 64;  // of the first data byte, in files we write
inline constexpr const char* kMetadataKey = "__metadata__";

struct DTypeName {
  DType dtype;
  std::string_view name;
};
inline constexpr DTypeName kDTypeNames[] = {
    {DType::kFloat32, "F32"},        {DType::kBFloat16, "BF16"}, {DType::kFloat16, "F16"},
    {DType::kFloat8E4M3, "F8_E4M3"}, {DType::kInt64, "I64"},     {DType::kInt32, "I32"},
    {DType::kUInt8, "U8"},
};

constexpr std::optional<DType> dtype_of(std::string_view name) {
  for (const DTypeName& entry : kDTypeNames) {
    if (entry.name == name) return entry.dtype;
  }
  return std::nullopt;
}

constexpr std::string_view format_name(DType dtype) {
  for (const DTypeName& entry : kDTypeNames) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "";
}

}  // namespace mole::loader
