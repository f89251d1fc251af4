#include <type_traits>

#include "kernels/cpu/lanes.h"
#include "kernels/rope/rope_rows.h"

namespace mole::kernels::MOLE_ISA {
namespace {

/// (x, y) -> (x cos - y sin, y cos + x sin) for sixteen pairs.
struct Turned16 {
  F32x16 a, b;
};
inline Turned16 turn16(F32x16 x, F32x16 y, F32x16 cos, F32x16 sin) {
  const F32x16 minus = sub16(set16(-0.0f), mul16(y, sin));
  return {fma16(x, cos, minus), fma16(y, cos, mul16(x, sin))};
}

/// Turns the pair (a, b), wherever it lies, by the same operations.
template <typename T>
inline void turn(const T* a, const T* b, T* out_a, T* out_b, float cos, float sin) {
  const float x = widen(*a), y = widen(*b);
  narrow(out_a, __builtin_fmaf(x, cos, -(y * sin)));
  narrow(out_b, __builtin_fmaf(y, cos, x * sin));
}

/// Writes a[0], b[0], a[1], b[1], …, rounded: 64 bytes.
inline void store_pairs16(BFloat16* p, F32x16 a, F32x16 b) {
  alignas(32) BFloat16 even[16], odd[16];
  store16(even, a);
  store16(odd, b);
  const __m256i x = _mm256_load_si256(reinterpret_cast<const __m256i*>(even));
  const __m256i y = _mm256_load_si256(reinterpret_cast<const __m256i*>(odd));
  const __m256i low = _mm256_unpacklo_epi16(x, y), high = _mm256_unpackhi_epi16(x, y);
  auto* out = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(out, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_storeu_si256(out + 1, _mm256_permute2x128_si256(low, high, 0x31));
}

template <typename T>
void turn_interleaved(const T* x, T* out, const float* cos, const float* sin, float sign,
                      int32_t half) {
  int32_t i = 0;
  if constexpr (std::is_same_v<T, BFloat16>) {
    for (; i + 16 <= half; i += 16) {
      const F32x16 s = mul16(set16(sign), load16(sin + i));
      const Turned16 turned =
          turn16(load_even16(x + 2 * i), load_odd16(x + 2 * i), load16(cos + i), s);
      store_pairs16(out + 2 * i, turned.a, turned.b);
    }
  }
  for (; i < half; ++i) {
    turn(x + 2 * i, x + 2 * i + 1, out + 2 * i, out + 2 * i + 1, cos[i], sign * sin[i]);
  }
}

template <typename T>
void turn_half_split(const T* x, T* out, const float* cos, const float* sin, float sign,
                     int32_t half) {
  int32_t i = 0;
  for (; i + 16 <= half; i += 16) {
    const F32x16 s = mul16(set16(sign), load16(sin + i));
    const Turned16 turned = turn16(load16(x + i), load16(x + half + i), load16(cos + i), s);
    store16(out + i, turned.a);
    store16(out + half + i, turned.b);
  }
  for (; i < half; ++i) {
    turn(x + i, x + half + i, out + i, out + half + i, cos[i], sign * sin[i]);
  }
}

template <typename T>
void rows(const RopeArgs& args, int64_t begin, int64_t end) {
  const int32_t half = args.table->dim / 2;
  const float sign = args.inverse ? -1.0f : 1.0f;
  for (int64_t r = begin; r < end; ++r) {
    const float* cos = args.table->cos.data() + int64_t{args.positions[r]} * half;
    const float* sin = args.table->sin.data() + int64_t{args.positions[r]} * half;
    const int64_t from_row = args.from_rows == nullptr ? r : args.from_rows[r];
    for (int32_t h = 0; h < args.heads; ++h) {
      T* out = static_cast<T*>(args.x) + r * args.row_stride + h * args.head_stride;
      const T* x = args.from == nullptr
                       ? out
                       : static_cast<const T*>(args.from) + from_row * args.from_row_stride +
                             h * args.from_head_stride;
      if (args.layout == RopeLayout::kInterleaved) {
        turn_interleaved(x, out, cos, sin, sign, half);
      } else {
        turn_half_split(x, out, cos, sin, sign, half);
      }
    }
  }
}

}  // namespace

void rope_rows(const RopeArgs& args, int64_t begin, int64_t end) {
  if (args.dtype == DType::kFloat32) return rows<float>(args, begin, end);
  rows<BFloat16>(args, begin, end);
}

}  // namespace mole::kernels::MOLE_ISA
