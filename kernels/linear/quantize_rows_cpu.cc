// Rows of bfloat16 to int8: activations at run time, weights when they are loaded.
#include <algorithm>
#include <limits>

#include "kernels/linear/int_lanes.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr uint16_t kMagnitude = 0x7fff, kInfinity = 0x7f80;
// 2^-100: below it 127 / most could overflow.
constexpr uint16_t kLeast = (127 - 100) << 7;

/// The largest magnitude's bits: order and NaN as integers have them, so above kInfinity is NaN.
uint16_t largest_bits(const BFloat16* x, int64_t k) {
  const __m256i mask = _mm256_set1_epi16(kMagnitude);
  __m256i most = _mm256_setzero_si256();
  int64_t i = 0;
  for (; i + 16 <= k; i += 16) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + i));
    most = _mm256_max_epu16(most, _mm256_and_si256(bits, mask));
  }
  alignas(32) uint16_t lane[16];
  _mm256_store_si256(reinterpret_cast<__m256i*>(lane), most);
  uint16_t best = 0;
  for (const uint16_t bits : lane) best = std::max(best, bits);
  for (; i < k; ++i) best = std::max(best, static_cast<uint16_t>(x[i].bits & kMagnitude));
  return best;
}

/// Where a row's codes go: 64 together, the next 64 `step` bytes further on.
struct Codes {
  int8_t* data;
  int64_t step;
  int8_t* at(int64_t i) const { return data + i / 64 * step + i % 64; }
};

void fill_zeros(const Codes& codes, int64_t begin, int64_t end) {
  while (begin < end) {
    const int64_t count = std::min(64 - begin % 64, end - begin);
    std::fill_n(codes.at(begin), count, int8_t{0});
    begin += count;
  }
}

/// Codes of k values and zeros up to `padded`; returns their sum. Both sides may be overrun by no
/// element.
int32_t round_codes(const BFloat16* x, int64_t k, int64_t padded, float inverse,
                    const Codes& codes) {
  const F32x16 factor = set16(inverse);
  I32x16 sum = zero_int16();
  int64_t i = 0;
  for (; i + 16 <= k; i += 16) {
    const I32x16 code = to_int16(mul16(load16(x + i), factor));
    sum = add16(sum, code);
    store_int8(codes.at(i), code);
  }
  if (i < k) {
    alignas(16) int8_t last[16];
    const I32x16 code = to_int16(mul16(load_part16(x + i, k - i), factor));
    sum = add16(sum, code);
    store_int8(last, code);
    std::copy(last, last + (k - i), codes.at(i));
  }
  fill_zeros(codes, k, padded);
  return sum_lanes16(sum);
}

/// A run of values that share a scale.
int32_t quantize_run(const BFloat16* x, int64_t k, int64_t padded, const Codes& codes,
                     float* scale) {
  const uint16_t bits = largest_bits(x, k);
  if (bits < kLeast || bits >= kInfinity) {
    *scale = bits < kLeast ? 0.0f : std::numeric_limits<float>::quiet_NaN();
    fill_zeros(codes, 0, padded);
    return 0;
  }
  const float most = to_float(BFloat16{bits});
  *scale = most / 127.0f;
  return round_codes(x, k, padded, 127.0f / most, codes);
}

}  // namespace

void quantize_rows(const LinearArgs& args, int64_t row, int64_t count, const Int8Rows& out) {
  const int64_t k = args.weight->k();
  for (int64_t i = 0; i < count; ++i) {
    const auto* x =
        static_cast<const BFloat16*>(args.x) + memory_row(args, row + i) * args.x_stride;
    Codes codes{out.codes + i * out.stride, 64};
    if (out.tile_rows > 0) {
      codes = {out.codes + i / 16 * 16 * out.stride + i % 16 * 64, out.tile_rows * 64};
    }
    for (int64_t r = 0; r < out.runs; ++r) {
      const int64_t first = r * out.run, at = i * out.runs + r;
      out.sums[at] = quantize_run(x + first, std::clamp<int64_t>(k - first, 0, out.run), out.run,
                                  {codes.at(first), codes.step}, out.scales + at);
    }
  }
}

bool quantize_int8(const BFloat16* x, int64_t k, int8_t* codes, float* scale) {
  quantize_run(x, k, k, {codes, 64}, scale);
  return *scale == *scale;
}

}  // namespace mole::kernels::MOLE_ISA
