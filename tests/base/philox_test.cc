#include "base/philox.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mole {
namespace {

// Known answers of the paper's reference implementation (Random123, kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32(0, 0, 0),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32(~0ull, ~0ull, ~0ull),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Philox, UniformIsInRangeAndSpread) {
  constexpr int kDraws = 100'000;
  double sum = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double u = philox_uniform(42, static_cast<uint64_t>(i), 0);
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
  }
  // Standard deviation of the mean of n uniforms is sqrt(1/12n); six of them.
  EXPECT_NEAR(sum / kDraws, 0.5, 6 * std::sqrt(1.0 / (12.0 * kDraws)));
}

}  // namespace
}  // namespace mole
