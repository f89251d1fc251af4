#include "kernels/adamw/adamw_impl.h"
#include "kernels/cpu/simd.h"

namespace mole::kernels::MOLE_ISA {

void adamw_span(const AdamWSpan& span, const AdamWScalars& scalars) {
  const F32x16 decay = set16(scalars.decay), mix1 = set16(scalars.mix1);
  const F32x16 beta2 = set16(scalars.beta2), mix2 = set16(scalars.mix2);
  const F32x16 step_size = set16(scalars.step_size), eps = set16(scalars.eps);
  const F32x16 root = set16(scalars.root_correction2), scale = set16(scalars.gradient_scale);
  for (int64_t i = 0; i < span.count; i += 16) {
    const int64_t lanes = span.count - i;
    const F32x16 g = mul16(load_part16(span.gradient + i, lanes), scale);
    F32x16 m = load_part16(span.moment1 + i, lanes);
    F32x16 v = load_part16(span.moment2 + i, lanes);
    m = fma16(sub16(g, m), mix1, m);
    v = fma16(mul16(g, g), mix2, mul16(v, beta2));
    const F32x16 slope = div16(m, add16(div16(sqrt16(v), root), eps));
    const F32x16 p = mul16(load_part16(span.parameter + i, lanes), decay);
    store_part16(span.parameter + i, fnma16(step_size, slope, p), lanes);
    store_part16(span.moment1 + i, m, lanes);
    store_part16(span.moment2 + i, v, lanes);
  }
}

double sum_of_squares_part(const float* x, int64_t count) {
  double chain[16] = {};
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    // A float's square is exact in double, so a fused and a plain multiply-add agree.
    for (int lane = 0; lane < 16; ++lane) chain[lane] += double{x[i + lane]} * double{x[i + lane]};
  }
  for (int lane = 0; i < count; ++i, ++lane) chain[lane] += double{x[i]} * double{x[i]};
  double sum = 0;
  for (const double part : chain) sum += part;
  return sum;
}

}  // namespace mole::kernels::MOLE_ISA
