#include "runtime/select_largest.h"

#include <algorithm>
#include <numeric>
#include <random>

#include <gtest/gtest.h>

#include "kernels/sampling/sampling.h"

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

std::vector<TokenId> selected(const std::vector<float>& values, size_t k) {
  const auto vocab = static_cast<int64_t>(values.size());
  std::vector<float> maxima(static_cast<size_t>(kernels::vocab_blocks(vocab)));
  EXPECT_TRUE(kernels::block_maxima(values.data(), vocab, maxima.data()));
  std::vector<TokenId> ids;
  select_largest(values, maxima, k, &ids);
  return ids;
}

TEST(SelectLargestTest, EqualsSortingEverything) {
  for (unsigned seed = 1; seed <= 40; ++seed) {
    std::mt19937 random(seed);
    std::vector<float> values(1 + random() % 20000);  // up to 40 blocks
    // Few different values: many ties.
    const auto distinct = 1 + random() % 2000;
    for (float& value : values) value = static_cast<float>(random() % distinct) - 10.0f;
    for (const size_t k :
         {size_t{0}, size_t{1}, size_t{3}, size_t{20}, size_t{512}, size_t{513}, size_t{9999}}) {
      ASSERT_EQ(selected(values, k), reference(values, k)) << "seed " << seed << " k " << k;
    }
  }
}

TEST(SelectLargestTest, MinusInfinityIsAValueLikeAnother) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {-inf, 1, -inf};
  EXPECT_EQ(selected(values, 3), (std::vector<TokenId>{1, 0, 2}));
}

}  // namespace
}  // namespace mole::runtime
