#include "kernels/linear/quantize.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

constexpr float kLeast = 0x1p-100f;  // below it a scale's inverse could overflow
constexpr float kE4m3Most = 448.0f;
constexpr uint8_t kE4m3Nan = 0x7f;

bool finite(float value) { return std::abs(value) <= 3.4028234e38f; }

/// e4m3 of a value of magnitude at most 448, nearest, ties to even.
uint8_t to_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>(bits >> 24 & 0x80);
  const float magnitude = std::abs(value);
  if (magnitude < 0x1p-6f) {  // multiples of 2^-9; adding 1.5 * 2^23 rounds to an integer
    const float steps = magnitude * 512.0f + 0x1.8p23f;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(steps) & 15));
  }
  const uint32_t kept = bits & 0x7fffffffu;
  const uint32_t rounded = (kept + 0x7ffffu + (kept >> 20 & 1)) >> 20;
  return static_cast<uint8_t>(sign | (rounded - (120u << 3)));
}

/// Rows [row, row + rows) by columns [column, column + columns) of one e4m3 block.
bool quantize_fp8_block(const BFloat16* weight, int64_t k, int64_t rows, int64_t columns,
                        std::byte* codes, float* scale) {
  float most = 0;
  bool sound = true;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const float value = std::abs(to_float(weight[r * k + c]));
      sound = sound && finite(value);
      most = std::max(most, value);
    }
  }
  *scale = most < kLeast ? 0.0f : most / kE4m3Most;
  const float inverse = most < kLeast ? 0.0f : kE4m3Most / most;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const float value = std::clamp(to_float(weight[r * k + c]) * inverse, -kE4m3Most, kE4m3Most);
      codes[r * k + c] = std::byte{to_e4m3(value)};
    }
  }
  return sound;
}

/// A group of at most 128 values to codes 0 … 15, 8 being zero.
bool quantize_int4_group(const BFloat16* x, int64_t count, uint8_t* codes, float* scale) {
  float extreme = 0;
  bool sound = true;
  for (int64_t i = 0; i < count; ++i) {
    const float value = to_float(x[i]);
    sound = sound && finite(value);
    if (std::abs(value) > std::abs(extreme)) extreme = value;
  }
  const bool zero = std::abs(extreme) < kLeast;
  *scale = zero ? 0.0f : extreme / -8.0f;
  const float inverse = zero ? 0.0f : 1.0f / *scale;
  for (int64_t i = 0; i < count; ++i) {
    const float code = std::clamp(to_float(x[i]) * inverse, -8.0f, 7.0f);
    codes[i] = static_cast<uint8_t>(static_cast<int>(std::nearbyint(code)) + 8);
  }
  return sound;
}

bool quantize_int4_row(const BFloat16* x, int64_t k, std::byte* codes, float* scales) {
  bool sound = true;
  for (int64_t first = 0, g = 0; first < k; first += kGroupK, ++g) {
    const int64_t count = std::min(kGroupK, k - first);
    uint8_t group[kGroupK + 1];
    sound = quantize_int4_group(x + first, count, group, scales + g) && sound;
    group[count] = 8;
    for (int64_t i = 0; i < count; i += 2) {
      codes[(first + i) / 2] = std::byte(group[i] | group[i + 1] << 4);
    }
  }
  return sound;
}

bool quantize_int8_row(WeightFormat format, const BFloat16* x, int64_t k, std::byte* codes,
                       float* scales) {
  const auto quantize_int8 = isa() == Isa::kAvx2 ? avx2::quantize_int8 : avx512::quantize_int8;
  auto* out = reinterpret_cast<int8_t*>(codes);
  if (!has_groups(format)) return quantize_int8(x, k, out, scales);
  bool sound = true;
  for (int64_t first = 0, g = 0; first < k; first += kGroupK, ++g) {
    const int64_t count = std::min(kGroupK, k - first);
    sound = quantize_int8(x + first, count, out + first, scales + g) && sound;
  }
  return sound;
}

}  // namespace

bool quantize(WeightFormat format, const BFloat16* weight, int64_t n, int64_t k, std::byte* codes,
              float* scales, ThreadTeam& team) {
  MOLE_CHECK(format != WeightFormat::kPlain && can_quantize(format, k));
  std::atomic<bool> sound{true};
  const int64_t columns = scale_columns(format, k), row_bytes = code_row_bytes(format, k);
  auto rows = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const bool row =
          format == WeightFormat::kInt4
              ? quantize_int4_row(weight + r * k, k, codes + r * row_bytes, scales + r * columns)
              : quantize_int8_row(format, weight + r * k, k, codes + r * row_bytes,
                                  scales + r * columns);
      if (!row) sound.store(false, std::memory_order_relaxed);
    }
  };
  auto blocks = [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const int64_t row = b / columns * kGroupK, column = b % columns * kGroupK;
      const int64_t at = row * k + column;
      const bool block = quantize_fp8_block(weight + at, k, std::min(kGroupK, n - row),
                                            std::min(kGroupK, k - column), codes + at, scales + b);
      if (!block) sound.store(false, std::memory_order_relaxed);
    }
  };
  if (format == WeightFormat::kFp8) {
    team.parallel_for(scale_rows(format, n) * columns, 1, blocks);
  } else {
    team.parallel_for(n, 8, rows);
  }
  return sound.load(std::memory_order_relaxed);
}

std::string quantized_fault(const QuantizedMatrix& matrix, ThreadTeam& team) {
  const int64_t scales =
      scale_rows(matrix.format, matrix.n) * scale_columns(matrix.format, matrix.k);
  for (int64_t i = 0; i < scales; ++i) {
    float scale;
    std::memcpy(&scale, matrix.scales + i * 4, sizeof(scale));
    if (!finite(scale)) return "scale " + std::to_string(i) + " is not finite";
  }
  if (matrix.format == WeightFormat::kInt4) return "";
  std::atomic<int64_t> bad{-1};
  const bool fp8 = matrix.format == WeightFormat::kFp8;
  auto rows = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const std::byte* row = matrix.codes + r * matrix.k;
      bool found = false;  // without an early end, so that the compiler may use vectors
      for (int64_t i = 0; i < matrix.k; ++i) {
        const auto code = std::to_integer<uint8_t>(row[i]);
        found |= fp8 ? (code & kE4m3Nan) == kE4m3Nan : code == 0x80;
      }
      if (found) bad.store(r, std::memory_order_relaxed);
    }
  };
  team.parallel_for(matrix.n, 8, rows);
  if (bad < 0) return "";
  return "row " + std::to_string(bad) + (fp8 ? " holds a NaN" : " holds the code -128");
}

float e4m3_value(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float magnitude = exponent == 0
                              ? std::ldexp(static_cast<float>(mantissa), -9)
                              : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
  return (code & 0x80) != 0 ? -magnitude : magnitude;
}

uint16_t narrow_magnitude(WeightFormat format, uint8_t magnitude) {
  const float value =
      format == WeightFormat::kFp8 ? e4m3_value(magnitude) : static_cast<float>(magnitude);
  return to_bfloat16(value).bits;
}

}  // namespace mole::kernels
