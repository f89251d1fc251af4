// What the tests of single operations share: seeded values, buffers between guard bands, comparison
// against a float64 reference with a bound per element, and "the same bits" over instruction sets
// and thread counts.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "base/philox.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels::testing {

/// Unit roundoff of float32; bfloat16's is kRoundoffBFloat16 (docs/numerics.md).
inline constexpr double kRoundoff = 0x1p-24;
inline constexpr double kRoundoffBFloat16 = 0x1p-8;
/// Below this a float32 is denormal and flushed.
inline constexpr double kFlushed = 0x1p-126;

/// MOLE_TEST_SEED, or 1. Every failure prints it.
inline uint64_t test_seed() {
  const char* text = std::getenv("MOLE_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

inline std::string seed_text() { return "MOLE_TEST_SEED=" + std::to_string(test_seed()); }

class Random {
 public:
  explicit Random(uint64_t stream) : stream_(stream) {}
  double uniform() { return philox_uniform(test_seed(), next_++, stream_); }
  /// Close to a normal deviate: the sum of four uniforms, mean 0 and variance 1.
  double normal() {
    double sum = 0;
    for (uint32_t word : philox4x32(test_seed(), next_++, stream_)) sum += word * 0x1p-32 - 0.5;
    return sum * std::sqrt(3.0);
  }
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(uniform() * static_cast<double>(high - low + 1));
  }

 private:
  uint64_t stream_, next_ = 0;
};

template <typename T>
constexpr DType dtype_of() {
  return sizeof(T) == 2 ? DType::kBFloat16 : DType::kFloat32;
}
template <typename T>
constexpr double roundoff_of() {
  return sizeof(T) == 2 ? kRoundoffBFloat16 : kRoundoff;
}
inline double to_double(float x) { return x; }
inline double to_double(double x) { return x; }
inline double to_double(int32_t x) { return x; }
inline double to_double(BFloat16 x) { return to_float(x); }
inline void assign(float& out, double x) { out = static_cast<float>(x); }
inline void assign(double& out, double x) { out = x; }
inline void assign(int32_t& out, double x) { out = std::isnan(x) ? -1 : static_cast<int32_t>(x); }
inline void assign(BFloat16& out, double x) { out = to_bfloat16(static_cast<float>(x)); }

/// `size` elements between bands that must stay as they are. Elements start as NaN (integers as
/// -1).
template <typename T>
class Guarded {
 public:
  explicit Guarded(int64_t size)
      : size_(size), all_(static_cast<size_t>(size + 2 * kBand)), before_(all_.size()) {
    for (T& x : all_) assign(x, std::numeric_limits<double>::quiet_NaN());
    for (int64_t i = 0; i < kBand; ++i) {
      assign(all_[static_cast<size_t>(i)], 12345.0 + static_cast<double>(i));
      assign(all_[static_cast<size_t>(size + kBand + i)], -12345.0 - static_cast<double>(i));
    }
    before_ = all_;
  }
  T* data() { return all_.data() + kBand; }
  const T* data() const { return all_.data() + kBand; }
  T& operator[](int64_t i) { return all_[static_cast<size_t>(i + kBand)]; }
  int64_t size() const { return size_; }
  bool guards_intact() const {
    const size_t band = kBand * sizeof(T), tail = static_cast<size_t>(size_ + kBand);
    return std::memcmp(all_.data(), before_.data(), band) == 0 &&
           std::memcmp(all_.data() + tail, before_.data() + tail, band) == 0;
  }
  bool same_bits(const Guarded& other) const {
    return size_ == other.size_ &&
           std::memcmp(data(), other.data(), static_cast<size_t>(size_) * sizeof(T)) == 0;
  }
  std::vector<double> doubles() const {
    std::vector<double> out;
    for (int64_t i = 0; i < size_; ++i) out.push_back(to_double(data()[i]));
    return out;
  }

 private:
  static constexpr int64_t kBand = 40;
  int64_t size_;
  std::vector<T> all_, before_;
};

/// Normal deviates times `spread`, rounded to T.
template <typename T>
Guarded<T> random_values(int64_t size, uint64_t stream, double spread = 1.0) {
  Guarded<T> out(size);
  Random random(stream);
  for (int64_t i = 0; i < size; ++i) assign(out[i], random.normal() * spread);
  return out;
}

inline std::vector<double> random_doubles(int64_t size, uint64_t stream, double spread = 1.0) {
  std::vector<double> out;
  Random random(stream);
  for (int64_t i = 0; i < size; ++i) out.push_back(random.normal() * spread);
  return out;
}

/// Every element within its bound of the reference, and NaN exactly where the reference has NaN.
inline void expect_within(const std::vector<double>& actual, const std::vector<double>& expected,
                          const std::vector<double>& bound, const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  ASSERT_EQ(actual.size(), bound.size()) << what;
  size_t worst = 0;
  double worst_ratio = -1;
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_EQ(std::isnan(actual[i]), std::isnan(expected[i]))
        << what << " [" << i << "]: " << actual[i] << " vs " << expected[i] << " " << seed_text();
    if (std::isnan(actual[i]) || actual[i] == expected[i]) continue;
    const double ratio = std::abs(actual[i] - expected[i]) / (bound[i] + kFlushed);
    if (!(ratio <= worst_ratio)) worst = i, worst_ratio = ratio;
  }
  EXPECT_LE(worst_ratio, 1.0) << what << " [" << worst << "]: " << actual[worst] << " vs "
                              << expected[worst] << ", bound " << bound[worst] << " "
                              << seed_text();
}

/// d f / d x[i] by central differences with step kDifferenceStep.
inline constexpr double kDifferenceStep = 1e-5;
/// Truncation is step^2 / 6 times the third derivative, rounding 2^-52 |f| / step: both below 1e-9
/// for the smooth, order-one functions here; two digits of room.
inline constexpr double kDifferenceTolerance = 1e-7;
template <typename F>
double difference(std::vector<double>& x, size_t i, F f) {
  const double kept = x[i];
  x[i] = kept + kDifferenceStep;
  const double above = f();
  x[i] = kept - kDifferenceStep;
  const double below = f();
  x[i] = kept;
  return (above - below) / (2 * kDifferenceStep);
}

/// Compares `gradient` with central differences of f at `samples` random coordinates of x.
template <typename F>
void expect_gradient(std::vector<double>& x, const std::vector<double>& gradient, F f, int samples,
                     const std::string& what) {
  ASSERT_EQ(x.size(), gradient.size());
  Random random(977);
  for (int s = 0; s < samples && !x.empty(); ++s) {
    const auto i = static_cast<size_t>(random.integer(0, static_cast<int64_t>(x.size()) - 1));
    const double numeric = difference(x, i, f);
    EXPECT_NEAR(gradient[i], numeric, kDifferenceTolerance * (1 + std::abs(numeric)))
        << what << " [" << i << "] " << seed_text();
  }
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Runs `fn(team)` for every instruction set of this machine with 1 to 4 threads.
template <typename F>
void for_each_isa_and_team(F fn) {
  const Isa best = isa();
  for (Isa choice : {Isa::kAvx2, Isa::kAvx512}) {
    if (choice > best) continue;
    set_isa_for_test(choice);
    for (int32_t threads = 1; threads <= 4; ++threads) {
      ThreadTeam team(threads);
      SCOPED_TRACE(std::string(isa_name(choice)) + ", threads " + std::to_string(threads));
      fn(team);
    }
  }
  set_isa_for_test(best);
}

}  // namespace mole::kernels::testing
