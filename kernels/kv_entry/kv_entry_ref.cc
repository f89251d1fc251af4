#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/kv_entry/kv_entry.h"

namespace mole::kernels {
namespace {

constexpr float kLeast = 0x1p-100f;

template <typename T>
void put(std::byte* to, T value) {
  std::memcpy(to, &value, sizeof(T));
}
template <typename T>
T get(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

void put_number(std::byte* to, float value, DType dtype) {
  dtype == DType::kBFloat16 ? put(to, to_bfloat16(value)) : put(to, value);
}
float get_number(const std::byte* from, DType dtype) {
  return dtype == DType::kBFloat16 ? to_float(get<BFloat16>(from)) : get<float>(from);
}

/// The magnitude that e4m3fn's code 0 to 126 stands for: 4 bits of exponent, biased by 7, 3 bits
/// below the point, no infinity (127 is its NaN). Source: arXiv 2209.05433.
float e4m3_magnitude(int code) {
  const int exponent = code >> 3, fraction = code & 7;
  return exponent == 0 ? std::ldexp(static_cast<float>(fraction), -9)
                       : std::ldexp(static_cast<float>(8 + fraction), exponent - 10);
}

/// The nearest of the 127 magnitudes, ties to the even code; by trying them.
uint8_t e4m3_code(float x) {
  const float magnitude = std::abs(x);
  int best = 0;
  for (int code = 1; code <= 126; ++code) {
    const float now = std::abs(e4m3_magnitude(code) - magnitude);
    const float before = std::abs(e4m3_magnitude(best) - magnitude);
    if (now < before || (now == before && code % 2 == 0)) best = code;
  }
  return static_cast<uint8_t>(best | (std::signbit(x) ? 0x80 : 0));
}

uint8_t int8_code(float x) {
  return std::bit_cast<uint8_t>(static_cast<int8_t>(std::nearbyint(x)));
}

}  // namespace

void kv_encode_ref(const KvEntryShape& shape, const float* row, std::byte* entry) {
  std::fill_n(entry, shape.bytes(), std::byte{0});
  const int64_t number = dtype_bytes(shape.dtype);
  for (int64_t i = 0; i < shape.rope; ++i) {
    put_number(entry + shape.rope_offset() + i * number, row[shape.latent + i], shape.dtype);
  }
  if (shape.format == KvFormat::kModel) {
    for (int64_t i = 0; i < shape.latent; ++i) put_number(entry + i * number, row[i], shape.dtype);
    return;
  }
  const bool fp8 = shape.format == KvFormat::kFp8;
  const float top = fp8 ? 448.0f : 127.0f;
  const int64_t group = fp8 ? kKvFp8Group : shape.latent;
  for (int64_t g = 0; g < shape.num_scales(); ++g) {
    const int64_t begin = g * group, end = std::min(shape.latent, begin + group);
    float largest = 0, scale = 0;
    bool finite = true;
    for (int64_t i = begin; i < end; ++i) {
      largest = std::max(largest, std::abs(row[i]));
      finite = finite && std::isfinite(row[i]);
    }
    if (!finite) {
      scale = std::numeric_limits<float>::quiet_NaN();
    } else if (largest >= kLeast) {
      scale = largest / top;
      for (int64_t i = begin; i < end; ++i) {
        const float x = row[i] * (top / largest);
        put(entry + i, fp8 ? e4m3_code(x) : int8_code(x));
      }
    }
    put(entry + shape.scales_offset() + 4 * g, scale);
  }
}

void kv_decode_ref(const KvEntryShape& shape, const std::byte* entry, float* decoded) {
  const int64_t number = dtype_bytes(shape.dtype);
  for (int64_t i = 0; i < shape.rope; ++i) {
    decoded[shape.latent + i] = get_number(entry + shape.rope_offset() + i * number, shape.dtype);
  }
  for (int64_t i = 0; i < shape.latent; ++i) {
    if (shape.format == KvFormat::kModel) {
      decoded[i] = get_number(entry + i * number, shape.dtype);
      continue;
    }
    const bool fp8 = shape.format == KvFormat::kFp8;
    const auto code = get<uint8_t>(entry + i);
    const float sign = (code & 0x80) != 0 ? -1.0f : 1.0f;
    const float value =
        fp8 ? sign * e4m3_magnitude(code & 0x7f) : static_cast<float>(std::bit_cast<int8_t>(code));
    const int64_t g = fp8 ? i / kKvFp8Group : 0;
    const float x = value * get<float>(entry + shape.scales_offset() + 4 * g);
    decoded[i] = shape.dtype == DType::kBFloat16 ? to_float(to_bfloat16(x)) : x;
  }
}

}  // namespace mole::kernels
