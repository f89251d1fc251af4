#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cases/ceilings.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

// exp.h promises two units in the last place.
constexpr double kUnits = 2;

std::vector<float> grid() {
  std::vector<float> out;
  for (int i = -105 * 4096; i <= 90 * 4096; ++i) out.push_back(static_cast<float>(i) / 4096);
  for (int exponent = -126; exponent < 0; ++exponent) {
    out.push_back(std::ldexp(1.37f, exponent));
    out.push_back(-std::ldexp(1.37f, exponent));
  }
  return out;
}

std::vector<float> run(const std::vector<float>& x, Isa set) {
  std::vector<float> y(x.size());
  const auto probe = set == Isa::kAvx2 ? avx2::probe_exp : avx512::probe_exp;
  probe(x.data(), y.data(), static_cast<int64_t>(x.size()));
  return y;
}

TEST(Exp, IsWithinTwoUnitsOfTheTruth) {
  const std::vector<float> x = grid(), y = run(x, Isa::kAvx2);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = std::exp(static_cast<double>(x[i]));
    if (want > std::numeric_limits<float>::max()) {
      EXPECT_EQ(y[i], std::numeric_limits<float>::infinity()) << x[i];
    } else {
      const auto rounded = static_cast<float>(want);
      const double unit = std::nextafter(rounded, INFINITY) - static_cast<double>(rounded);
      EXPECT_LE(std::abs(y[i] - want), kUnits * unit) << x[i];
    }
    if (HasFailure()) return;
  }
}

TEST(Exp, KnowsTheEnds) {
  const std::vector<float> x = {0.0f, -0.0f, -INFINITY, INFINITY, -1e30f, 1e30f, 88.72f, 88.73f};
  const std::vector<float> y = run(x, Isa::kAvx2);
  EXPECT_EQ(y[0], 1);
  EXPECT_EQ(y[1], 1);
  EXPECT_EQ(y[2], 0);
  EXPECT_EQ(y[3], INFINITY);
  EXPECT_EQ(y[4], 0);
  EXPECT_EQ(y[5], INFINITY);
  EXPECT_LT(y[6], INFINITY);
  EXPECT_EQ(y[7], INFINITY);
}

TEST(Exp, HasTheSameBitsOnEveryInstructionSetOfThisMachine) {
  const Isa widest = isa_available(Isa::kAvx512) ? Isa::kAvx512 : Isa::kAvx2;
  const std::vector<float> x = grid(), narrow = run(x, Isa::kAvx2), wide = run(x, widest);
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(narrow[i]), std::bit_cast<uint32_t>(wide[i])) << x[i];
  }
}

}  // namespace
}  // namespace mole::kernels
