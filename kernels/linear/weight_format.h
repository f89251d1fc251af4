// How a packed weight's values are stored, and what they are multiplied with.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace mole::kernels {

/// All but kPlain are multiplied with bfloat16 activations, either as they are or rounded to int8 a
/// row at a time; kernels/linear/quantize.h says how values become codes, docs/numerics.md how they
/// are multiplied.
enum class WeightFormat : uint8_t {
  kPlain,      // float32 or bfloat16
  kInt8,       // int8, one scale a row; activations int8, one scale a row: exact integer sums
  kInt8Group,  // int8, scales of 128 k, of both factors
  kInt8A16,    // int8, scales of 128 k; activations stay bfloat16
  kInt4,       // 4 bits, scales of 128 k; activations stay bfloat16
  kFp8,        // e4m3, one scale a block of 128 rows by 128 k; activations stay bfloat16
};

inline constexpr WeightFormat kQuantizedFormats[] = {WeightFormat::kInt8, WeightFormat::kInt8Group,
                                                     WeightFormat::kInt8A16, WeightFormat::kInt4,
                                                     WeightFormat::kFp8};

inline constexpr int64_t kGroupK = 128;  // k that share a scale, and rows of an e4m3 block
/// Longest row of kInt8: the sum of so many products of int8 fits 32 bits.
inline constexpr int64_t kInt8MaxK = int64_t{1} << 17;

/// As users write it.
constexpr std::string_view format_name(WeightFormat format) {
  switch (format) {
    case WeightFormat::kPlain:
      return "none";
    case WeightFormat::kInt8:
      return "int8";
    case WeightFormat::kInt8Group:
      return "int8-g128";
    case WeightFormat::kInt8A16:
      return "int8-a16";
    case WeightFormat::kInt4:
      return "int4";
    case WeightFormat::kFp8:
      return "fp8";
  }
  return "unknown";
}

constexpr std::optional<WeightFormat> format_of(std::string_view name) {
  if (name == format_name(WeightFormat::kPlain)) return WeightFormat::kPlain;
  for (const WeightFormat format : kQuantizedFormats) {
    if (name == format_name(format)) return format;
  }
  return std::nullopt;
}

/// Whether scales belong to 128 k (and not to whole rows).
constexpr bool has_groups(WeightFormat format) {
  return format != WeightFormat::kPlain && format != WeightFormat::kInt8;
}
/// Whether activations are rounded to int8.
constexpr bool int8_activations(WeightFormat format) {
  return format == WeightFormat::kInt8 || format == WeightFormat::kInt8Group;
}

/// Bytes of `k` codes of one row, as they lie in files.
constexpr int64_t code_row_bytes(WeightFormat format, int64_t k) {
  return format == WeightFormat::kInt4 ? (k + 1) / 2 : k;
}
/// Rows and columns of the matrix of scales that belongs to codes [n, k].
constexpr int64_t scale_rows(WeightFormat format, int64_t n) {
  return format == WeightFormat::kFp8 ? (n + kGroupK - 1) / kGroupK : n;
}
constexpr int64_t scale_columns(WeightFormat format, int64_t k) {
  return has_groups(format) ? (k + kGroupK - 1) / kGroupK : 1;
}

}  // namespace mole::kernels
