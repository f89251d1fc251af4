#include "load_tests/random_values.h"

#include <cmath>

#include "base/check.h"

namespace mole::load_tests {

namespace {

constexpr uint64_t kGolden = 0x9E3779B97F4A7C15u;

uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Sum of the four 16-bit parts, centred: an integer of [-131070, 131070].
int32_t centred_sum(uint64_t bits) {
  const auto sum = static_cast<int32_t>((bits & 0xffff) + (bits >> 16 & 0xffff) +
                                        (bits >> 32 & 0xffff) + (bits >> 48));
  return sum - 2 * 0xffff;
}

template <typename T, typename Round>
void fill(uint64_t key, int64_t first, int64_t count, float scale, T* out, Round round) {
  uint64_t state = key + kGolden * static_cast<uint64_t>(first);
  for (int64_t i = 0; i < count; ++i, state += kGolden) {
    out[i] = round(static_cast<float>(centred_sum(mix(state))) * scale);
  }
}

}  // namespace

uint64_t stream_key(uint64_t seed, std::string_view name) {
  uint64_t hash = mix(seed + kGolden);
  for (const char c : name) hash = mix(hash ^ static_cast<unsigned char>(c));
  return hash;
}

void fill_normal(uint64_t key, int64_t first, int64_t count, double deviation, DType dtype,
                 void* out) {
  MOLE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  // Variance of one part: ((2^16)^2 - 1) / 12; of four: a third of 2^32.
  const auto scale = static_cast<float>(deviation / std::sqrt((0x1p32 - 1) / 3));
  if (dtype == DType::kFloat32) {
    fill(key, first, count, scale, static_cast<float*>(out), [](float value) { return value; });
  } else {
    fill(key, first, count, scale, static_cast<BFloat16*>(out),
         [](float value) { return to_bfloat16(value); });
  }
}

}  // namespace mole::load_tests
