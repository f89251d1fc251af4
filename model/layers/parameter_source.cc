#include "model/layers/parameter_source.h"

#include <cmath>
#include <numbers>

#include "base/philox.h"

namespace mole::model {

namespace {

/// FNV-1a, 64 bits: a name's own stream of random numbers.
uint64_t name_hash(const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

/// Two independent standard normal numbers (Box and Muller, 1958) from one Philox draw.
void normal_pair(uint64_t seed, uint64_t index, uint64_t stream, double* a, double* b) {
  const auto words = philox4x32(seed, index, stream);
  // 64 bits each; the first in (0, 1] so that its logarithm exists.
  const double u = (static_cast<double>((uint64_t{words[0]} << 32) | words[1]) + 1.0) * 0x1.0p-64;
  const double v = static_cast<double>((uint64_t{words[2]} << 32) | words[3]) * 0x1.0p-64;
  const double radius = std::sqrt(-2.0 * std::log(u));
  *a = radius * std::cos(2 * std::numbers::pi * v);
  *b = radius * std::sin(2 * std::numbers::pi * v);
}

int64_t product(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (const int64_t extent : shape) count *= extent;
  return count;
}

}  // namespace

void CheckpointParameters::read(const std::string& name, const std::vector<int64_t>& shape,
                                InitialValue, DType dtype, void* out) {
  source_.read(name, shape, dtype, out);
}

void RandomParameters::read(const std::string& name, const std::vector<int64_t>& shape,
                            InitialValue initial, DType dtype, void* out) {
  const int64_t count = product(shape);
  auto store = [&](int64_t i, double value) {
    const float rounded = static_cast<float>(value);
    if (dtype == DType::kFloat32) {
      static_cast<float*>(out)[i] = rounded;
    } else {
      static_cast<BFloat16*>(out)[i] = to_bfloat16(rounded);
    }
  };
  if (initial != InitialValue::kNormal) {
    for (int64_t i = 0; i < count; ++i) store(i, initial == InitialValue::kOne ? 1.0 : 0.0);
    return;
  }
  const uint64_t stream = name_hash(name);
  for (int64_t i = 0; i < count; i += 2) {
    double a = 0, b = 0;
    normal_pair(seed_, static_cast<uint64_t>(i / 2), stream, &a, &b);
    store(i, a * standard_deviation_);
    if (i + 1 < count) store(i + 1, b * standard_deviation_);
  }
}

}  // namespace mole::model
