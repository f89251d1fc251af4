#include "kernels/cpu/lanes.h"
#include "kernels/rope/rope_rows.h"

namespace mole::kernels::MOLE_ISA {
namespace {

/// Turns the pair (a, b); the two layouts differ only in where a and b lie.
template <typename T>
inline void turn(T* a, T* b, float cos, float sin) {
  const float x = widen(*a), y = widen(*b);
  narrow(a, __builtin_fmaf(x, cos, -(y * sin)));
  narrow(b, __builtin_fmaf(y, cos, x * sin));
}

template <typename T>
void turn_interleaved(T* x, const float* cos, const float* sin, float sign, int32_t half) {
  for (int32_t i = 0; i < half; ++i) turn(x + 2 * i, x + 2 * i + 1, cos[i], sign * sin[i]);
}

template <typename T>
void turn_half_split(T* x, const float* cos, const float* sin, float sign, int32_t half) {
  int32_t i = 0;
  for (; i + 16 <= half; i += 16) {
    const F32x16 a = load16(x + i), b = load16(x + half + i);
    const F32x16 c = load16(cos + i), s = mul16(set16(sign), load16(sin + i));
    store16(x + i, fma16(a, c, sub16(set16(-0.0f), mul16(b, s))));
    store16(x + half + i, fma16(b, c, mul16(a, s)));
  }
  for (; i < half; ++i) turn(x + i, x + half + i, cos[i], sign * sin[i]);
}

template <typename T>
void rows(const RopeArgs& args, int64_t begin, int64_t end) {
  const int32_t half = args.table->dim / 2;
  const float sign = args.inverse ? -1.0f : 1.0f;
  for (int64_t r = begin; r < end; ++r) {
    const float* cos = args.table->cos.data() + int64_t{args.positions[r]} * half;
    const float* sin = args.table->sin.data() + int64_t{args.positions[r]} * half;
    for (int32_t h = 0; h < args.heads; ++h) {
      T* x = static_cast<T*>(args.x) + r * args.row_stride + h * args.head_stride;
      if (args.layout == RopeLayout::kInterleaved) {
        turn_interleaved(x, cos, sin, sign, half);
      } else {
        turn_half_split(x, cos, sin, sign, half);
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
