// Arithmetic of the CUDA kernels, element by element, with the operations and the order of the
// CPU's (kernels/cpu/simd.h, exp.h): the same bits on both. Compiles for the host too, where
// tests/kernels/cuda_emulation_test.cc holds it against the CPU kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/dtype.h"

#ifdef __CUDACC__
#define MOLE_DEVICE __host__ __device__
#else
#define MOLE_DEVICE
#endif

namespace mole::kernels::device {

MOLE_DEVICE inline float bits_to_float(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
MOLE_DEVICE inline uint32_t float_to_bits(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return bits;
}

/// a * b + c, rounded once.
MOLE_DEVICE inline float fma_once(float a, float b, float c) { return fmaf(a, b, c); }

MOLE_DEVICE inline float widen(float x) { return x; }
MOLE_DEVICE inline float widen(BFloat16 x) {
  return bits_to_float(static_cast<uint32_t>(x.bits) << 16);
}

/// Rounds to nearest, ties to even; a NaN stays a quiet NaN.
MOLE_DEVICE inline void narrow(float* to, float x) { *to = x; }
MOLE_DEVICE inline void narrow(BFloat16* to, float x) {
  const uint32_t bits = float_to_bits(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  const uint32_t rounded =
      nan ? (bits >> 16) | 0x40u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  to->bits = static_cast<uint16_t>(rounded);
}

/// 2^n for integral n in [-126, 127].
MOLE_DEVICE inline float exp2_int(float n) {
  return bits_to_float(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23);
}

/// kernels/cpu/exp.h's exp16, one value.
MOLE_DEVICE inline float exp_f32(float x) {
  x = fminf(fmaxf(x, -105.0f), 88.73f);
  const float n = rintf(x * 1.44269504088896341f);
  float r = fma_once(-n, 0.693359375f, x);
  r = fma_once(-n, -2.12194440e-4f, r);
  float p = 1.0f / 5040.0f;
  p = fma_once(p, r, 1.0f / 720.0f);
  p = fma_once(p, r, 1.0f / 120.0f);
  p = fma_once(p, r, 1.0f / 24.0f);
  p = fma_once(p, r, 1.0f / 6.0f);
  p = fma_once(p, r, 0.5f);
  p = fma_once(p, r, 1.0f);
  p = fma_once(p, r, 1.0f);
  const float half = rintf(n * 0.5f);
  return p * exp2_int(half) * exp2_int(n - half);
}

/// silu(gate) * up.
MOLE_DEVICE inline float silu_mul(float gate, float up) {
  return gate / (1.0f + exp_f32(0.0f - gate)) * up;
}

/// Chain `lane` (0 … 15) of a row's sum of squares: elements lane, lane + 16, ….
template <typename T>
MOLE_DEVICE inline float square_chain(const T* x, int64_t dim, int64_t lane) {
  float sum = 0;
  for (int64_t i = lane; i < dim; i += 16) {
    const float value = widen(x[i]);
    sum = fma_once(value, value, sum);
  }
  return sum;
}

MOLE_DEVICE inline float inverse_rms(float sum_of_squares, int64_t dim, float eps) {
  return 1.0f / sqrtf(sum_of_squares / static_cast<float>(dim) + eps);
}

/// Turns the pair (a, b) by the angle with this cosine and sine.
template <typename T>
MOLE_DEVICE inline void turn_pair(T* a, T* b, float cos, float sin) {
  const float x = widen(*a), y = widen(*b);
  narrow(a, fma_once(x, cos, -(y * sin)));
  narrow(b, fma_once(y, cos, x * sin));
}

}  // namespace mole::kernels::device
