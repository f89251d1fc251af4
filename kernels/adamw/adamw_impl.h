// AdamW's arithmetic per instruction set.
#pragma once

#include <cstdint>

namespace mole::kernels {

/// One step's scalars, rounded to float32 once. torch.optim.AdamW's order:
///   p *= decay; m = m + (g - m) mix1; v = v beta2 + g g mix2;
///   p -= step_size m / (sqrt(v) / root_correction2 + eps).
struct AdamWScalars {
  float decay = 1, mix1 = 0, beta2 = 0, mix2 = 0, step_size = 0, root_correction2 = 1, eps = 0;
  float gradient_scale = 1;
};

struct AdamWSpan {
  float* parameter = nullptr;
  const float* gradient = nullptr;
  float* moment1 = nullptr;
  float* moment2 = nullptr;
  int64_t count = 0;
};

namespace avx2 {
void adamw_span(const AdamWSpan& span, const AdamWScalars& scalars);
double sum_of_squares_part(const float* x, int64_t count);
}  // namespace avx2
namespace avx512 {
void adamw_span(const AdamWSpan& span, const AdamWScalars& scalars);
double sum_of_squares_part(const float* x, int64_t count);
}  // namespace avx512

}  // namespace mole::kernels
