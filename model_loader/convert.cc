#include "model_loader/convert.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace mole::loader {
namespace {

float decode_e4m3(uint8_t bits) {
  const int exponent = (bits >> 3) & 15;
  const int mantissa = bits & 7;
  const float sign = (bits & 0x80) != 0 ? -1.0f : 1.0f;
  if (exponent == 15 && mantissa == 7) return std::numeric_limits<float>::quiet_NaN();
  if (exponent == 0) return sign * std::ldexp(static_cast<float>(mantissa), -9);
  return sign * std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
}

const std::array<float, 256>& e4m3_table() {
  static const std::array<float, 256> table = [] {
    std::array<float, 256> values{};
    for (size_t i = 0; i < values.size(); ++i) values[i] = decode_e4m3(static_cast<uint8_t>(i));
    return values;
  }();
  return table;
}

template <typename T>
T load(const std::byte* from, int64_t index) {
  T value;
  std::memcpy(&value, from + index * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

struct ReadFloat32 {
  float operator()(const std::byte* from, int64_t i) const { return load<float>(from, i); }
};
struct ReadBFloat16 {
  float operator()(const std::byte* from, int64_t i) const {
    return to_float(BFloat16{load<uint16_t>(from, i)});
  }
};
struct ReadFloat16 {
  float operator()(const std::byte* from, int64_t i) const {
    return float16_to_float(load<uint16_t>(from, i));
  }
};
struct ReadFloat8 {
  const float* table = e4m3_table().data();
  float operator()(const std::byte* from, int64_t i) const {
    return table[std::to_integer<uint8_t>(from[i])];
  }
};

template <typename Read>
void convert_with(const Read& read, const std::byte* from, int64_t count, DType out_dtype,
                  void* out) {
  if (out_dtype == DType::kFloat32) {
    auto* values = static_cast<float*>(out);
    for (int64_t i = 0; i < count; ++i) values[i] = read(from, i);
  } else {
    auto* values = static_cast<BFloat16*>(out);
    for (int64_t i = 0; i < count; ++i) values[i] = to_bfloat16(read(from, i));
  }
}

}  // namespace

float float16_to_float(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 31u;
  const uint32_t mantissa = bits & 1023u;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24 is exact in float32
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

float float8_e4m3_to_float(uint8_t bits) { return e4m3_table()[bits]; }

bool is_floating(DType dtype) {
  return dtype == DType::kFloat32 || dtype == DType::kBFloat16 || dtype == DType::kFloat16 ||
         dtype == DType::kFloat8E4M3;
}

void convert(DType from_dtype, const std::byte* from, int64_t count, DType out_dtype, void* out) {
  MOLE_CHECK(out_dtype == DType::kFloat32 || out_dtype == DType::kBFloat16);
  if (from_dtype == out_dtype) {
    const int64_t bytes = count * dtype_bytes(out_dtype);
    if (bytes > 0) std::memcpy(out, from, static_cast<size_t>(bytes));
    return;
  }
  switch (from_dtype) {
    case DType::kFloat32:
      return convert_with(ReadFloat32{}, from, count, out_dtype, out);
    case DType::kBFloat16:
      return convert_with(ReadBFloat16{}, from, count, out_dtype, out);
    case DType::kFloat16:
      return convert_with(ReadFloat16{}, from, count, out_dtype, out);
    case DType::kFloat8E4M3:
      return convert_with(ReadFloat8{}, from, count, out_dtype, out);
    case DType::kInt64:
    case DType::kInt32:
    case DType::kUInt8:
      break;
  }
  MOLE_CHECK(is_floating(from_dtype));
}

void convert_fp8_blocks(const TensorView& matrix, const TensorView& scales, DType out_dtype,
                        void* out) {
  MOLE_CHECK(out_dtype == DType::kFloat32 || out_dtype == DType::kBFloat16);
  const int64_t rows = matrix.shape[0];
  const int64_t columns = matrix.shape[1];
  const int64_t blocks_across = (columns + kFp8Block - 1) / kFp8Block;
  MOLE_CHECK_EQ(scales.num_elements(), (rows + kFp8Block - 1) / kFp8Block * blocks_across);
  const float* table = e4m3_table().data();
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      const float scale =
          load<float>(scales.bytes.data(), row / kFp8Block * blocks_across + column / kFp8Block);
      const int64_t i = row * columns + column;
      const float value =
          table[std::to_integer<uint8_t>(matrix.bytes[static_cast<size_t>(i)])] * scale;
      if (out_dtype == DType::kFloat32) {
        static_cast<float*>(out)[i] = value;
      } else {
        static_cast<BFloat16*>(out)[i] = to_bfloat16(value);
      }
    }
  }
}

}  // namespace mole::loader
