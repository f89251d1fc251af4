#include "kernels/cases/ceilings.h"
#include "kernels/cpu/exp.h"

namespace mole::kernels::MOLE_ISA {

/// Reads everything once, sixteen lines at a turn, 2 KiB ahead prefetched.
float probe_read(const float* data, int64_t count) {
  constexpr int64_t kAhead = 512, kTurn = 128;
  F32x16 sum[8];
#pragma GCC unroll 8
  for (auto& part : sum) part = zero16();
  for (int64_t i = 0; i + kTurn <= count; i += kTurn) {
#pragma GCC unroll 8
    for (int64_t j = 0; j < 8; ++j) {
      _mm_prefetch(reinterpret_cast<const char*>(data + i + 16 * j + kAhead), _MM_HINT_T0);
      sum[j] = add16(sum[j], load16(data + i + 16 * j));
    }
  }
  float total = 0;
  for (const F32x16& part : sum) total += sum_lanes16(part);
  return total;
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
