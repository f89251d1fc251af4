#include "kernels/cases/ceilings.h"
#include "kernels/cases/gemv_probe.h"
#include "kernels/cpu/exp.h"

namespace mole::kernels::MOLE_ISA {

/// Reads everything once, eight vectors at a turn.
float probe_read(const float* data, int64_t count) {
  constexpr int64_t kTurn = 128;
  F32x16 sum[8];
#pragma GCC unroll 8
  for (auto& part : sum) part = zero16();
  for (int64_t i = 0; i + kTurn <= count; i += kTurn) {
#pragma GCC unroll 8
    for (int64_t j = 0; j < 8; ++j) sum[j] = add16(sum[j], load16(data + i + 16 * j));
  }
  float total = 0;
  for (const F32x16& part : sum) total += sum_lanes16(part);
  return total;
}

void probe_gemv(const void* block, const uint16_t* x, float* y) {
  constexpr int64_t kAhead = 1024;  // elements, 2 KiB
  const auto* line = static_cast<const BFloat16*>(block);
  F32x16 least = set16(3.0e38f);
  for (int64_t part = 0; part < GemvProbe::kStreams / 2; ++part) {
    F32x16 even[2], odd[2];
#pragma GCC unroll 2
    for (int half = 0; half < 2; ++half) even[half] = odd[half] = zero16();
    for (int64_t k = 0; k < GemvProbe::kDepth; k += 2) {
      const F32x16 x_even = set16(to_float(BFloat16{x[k]}));
      const F32x16 x_odd = set16(to_float(BFloat16{x[k + 1]}));
#pragma GCC unroll 2
      for (int half = 0; half < 2; ++half, line += 32) {
        _mm_prefetch(reinterpret_cast<const char*>(line + kAhead), _MM_HINT_T0);
        even[half] = fma16(x_even, load_even16(line), even[half]);
        odd[half] = fma16(x_odd, load_odd16(line), odd[half]);
      }
    }
    for (int half = 0; half < 2; ++half) least = min16(least, add16(even[half], odd[half]));
  }
  store16(y, least);
}

/// Twelve chains: more than latency times ports asks for.
float probe_fma(int64_t rounds) {
  F32x16 sum[12];
#pragma GCC unroll 12
  for (auto& chain : sum) chain = zero16();
  const F32x16 a = set16(0.999f), b = set16(0.001f);
  for (int64_t i = 0; i < rounds; ++i) {
#pragma GCC unroll 12
    for (auto& chain : sum) chain = fma16(chain, a, b);
  }
  float total = 0;
  for (const F32x16& chain : sum) total += sum_lanes16(chain);
  return total;
}

void probe_exp(const float* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    store_part16(y + i, exp16(load_part16(x + i, count - i)), count - i);
  }
}

}  // namespace mole::kernels::MOLE_ISA
