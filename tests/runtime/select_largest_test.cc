#include "runtime/select_largest.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

namespace mole::runtime {
namespace {

// Sorting everything: slow and plainly right.
std::vector<TokenId> reference(std::span<const float> values, size_t k) {
  std::vector<TokenId> ids(values.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::stable_sort(ids.begin(), ids.end(),
                   [&](TokenId a, TokenId b) { return values[a] > values[b]; });
  ids.resize(std::min(k, ids.size()));
  return ids;
}

TEST(SelectLargestTest, EqualsSortingEverything) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    std::mt19937 random(seed);
    std::vector<float> values(1 + random() % 3000);
    // Few different values: many ties.
    const auto distinct = 1 + random() % 2000;
    for (float& value : values) value = static_cast<float>(random() % distinct) - 10.0f;
    for (const size_t k :
         {size_t{0}, size_t{1}, size_t{20}, size_t{512}, size_t{513}, size_t{9999}}) {
      std::vector<TokenId> ids;
      select_largest(values, k, &ids);
      ASSERT_EQ(ids, reference(values, k)) << "seed " << seed << " k " << k;
    }
  }
}

TEST(SelectLargestTest, MinusInfinityIsAValueLikeAnother) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {-inf, 1, -inf};
  std::vector<TokenId> ids;
  select_largest(values, 3, &ids);
  EXPECT_EQ(ids, (std::vector<TokenId>{1, 0, 2}));
}

}  // namespace
}  // namespace mole::runtime
