#include "runtime/block_pool.h"

#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace mole::runtime {
namespace {

constexpr int32_t kOrdinary = 4;

TEST(BlockPoolTest, GivesEachBlockOnce) {
  BlockPool pool(3);
  std::vector<int32_t> taken;
  while (pool.num_free() > 0) taken.push_back(pool.allocate().value);
  std::sort(taken.begin(), taken.end());
  EXPECT_EQ(taken, (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(pool.num_used(), 3);
}

TEST(BlockPoolTest, IsFreeWhenItsLastUserGoes) {
  BlockPool pool(2);
  const BlockId block = pool.allocate();
  pool.add_ref(block);
  pool.release(block, kOrdinary);
  EXPECT_EQ(pool.num_used(), 1);
  pool.release(block, kOrdinary);
  EXPECT_EQ(pool.num_used(), 0);
}

TEST(BlockPoolTest, TakesWorthlessBlocksFirstThenTheOldest) {
  BlockPool pool(3);
  const BlockId a = pool.allocate(), b = pool.allocate(), c = pool.allocate();
  pool.release(a, kOrdinary);
  pool.release(b, kOrdinary);
  pool.release(c, kWorthless);
  EXPECT_EQ(pool.allocate(), c);
  EXPECT_EQ(pool.allocate(), a);
  EXPECT_EQ(pool.allocate(), b);
}

TEST(BlockPoolTest, AFreeBlockCanBeUsedAgainWithoutBeingTaken) {
  BlockPool pool(2);
  const BlockId a = pool.allocate();
  pool.release(a, kOrdinary);
  pool.add_ref(a);
  EXPECT_EQ(pool.num_free(), 1);
  EXPECT_NE(pool.allocate(), a);
}

TEST(BlockPoolTest, WorthKeepsABlockForTurnoversButNotForEver) {
  constexpr int32_t kBlocks = 4;
  BlockPool pool(kBlocks);
  const BlockId worthy = pool.allocate();
  pool.release(worthy, kOrdinary + 2);
  // Ordinary blocks come and go; each release makes the worthy block older.
  int32_t survived = 0;
  for (BlockId other = pool.allocate(); other != worthy; other = pool.allocate(), ++survived) {
    ASSERT_LT(survived, 100);
    pool.release(other, kOrdinary);
  }
  EXPECT_GE(survived, 2 * kBlocks);
  EXPECT_LE(survived, 3 * kBlocks + 1);
}

TEST(BlockPoolTest, AHeldBlockIsNotTakenAndKeepsItsPlace) {
  BlockPool pool(3);
  const BlockId a = pool.allocate(), b = pool.allocate(), c = pool.allocate();
  for (const BlockId block : {a, b, c}) pool.release(block, kOrdinary);
  pool.hold(a);
  EXPECT_EQ(pool.num_free(), 2);
  EXPECT_EQ(pool.num_used(), 0);
  EXPECT_EQ(pool.allocate(), b);
  pool.add_ref(a);  // found in the prefix cache while it is written
  pool.release(a, kOrdinary);
  pool.hold(b);
  pool.release(b, kOrdinary);
  EXPECT_EQ(pool.num_free(), 1);
  pool.let_go(a);
  pool.let_go(b);
  EXPECT_EQ(pool.num_free(), 3);
  EXPECT_EQ(pool.allocate(), c);
  EXPECT_EQ(pool.allocate(), a);
}

TEST(BlockPoolDeathTest, ReleaseOfAFreeBlockIsABug) {
  BlockPool pool(1);
  EXPECT_DEATH(pool.release(BlockId{0}, kOrdinary), "refs > 0");
  EXPECT_DEATH(pool.refs(BlockId{1}), "invariant broken");
}

// Against the obvious model: a count per block.
TEST(BlockPoolTest, CountsLikeAPlainArray) {
  constexpr unsigned kSeed = 20261121;
  std::mt19937 random(kSeed);
  BlockPool pool(17);
  std::vector<int32_t> counts(17, 0);
  for (int step = 0; step < 5000; ++step) {
    const auto block = static_cast<int32_t>(random() % 17);
    if (random() % 3 == 0 && pool.num_free() > 0) {
      const BlockId taken = pool.allocate();
      ASSERT_EQ(counts[taken.value]++, 0) << "seed " << kSeed;
    } else if (random() % 2 == 0) {
      pool.add_ref(BlockId{block});
      ++counts[block];
    } else if (counts[block] > 0) {
      pool.release(BlockId{block}, random() % 2 ? kWorthless : kOrdinary);
      --counts[block];
    }
    ASSERT_EQ(pool.num_free(), std::count(counts.begin(), counts.end(), 0)) << "seed " << kSeed;
    ASSERT_EQ(pool.refs(BlockId{block}), counts[block]) << "seed " << kSeed;
  }
}

}  // namespace
}  // namespace mole::runtime
