#include "runtime/prefix_cache.h"

#include <limits>

#include <gtest/gtest.h>

#include "model/model.h"
#include "tests/runtime/test_requests.h"

namespace mole::runtime {
namespace {

using model::kBlockTokens;

class PrefixCacheTest : public ::testing::Test {
 protected:
  // Publishes all full blocks of `tokens`, of which `num_prompt` are the prompt.
  std::vector<BlockId> publish(const std::vector<TokenId>& tokens, int32_t num_prompt,
                               const BlockKey& salt, int32_t priority = 0) {
    std::vector<BlockId> blocks;
    for (const BlockKey& key : keys_of(tokens, num_prompt, salt)) {
      blocks.push_back(cache_.take());
      cache_.publish(blocks.back(), key, priority);
    }
    return blocks;
  }
  std::vector<BlockId> match(const std::vector<TokenId>& tokens, int32_t num_prompt,
                             const BlockKey& salt) {
    std::vector<BlockId> blocks;
    cache_.match(keys_of(tokens, num_prompt, salt), 0, &blocks);
    return blocks;
  }
  std::vector<BlockKey> keys_of(const std::vector<TokenId>& tokens, int32_t num_prompt,
                                const BlockKey& salt) {
    const size_t blocks = tokens.size() / kBlockTokens;
    KeyChain chain(salt, blocks);
    const auto keys = chain.first(static_cast<int32_t>(blocks), tokens, num_prompt, maker_);
    return {keys.begin(), keys.end()};
  }

  BlockPool pool_{8};
  PrefixCache cache_{&pool_};
  KeyMaker maker_;
  const BlockKey salt_ = root_key("a");
};

TEST_F(PrefixCacheTest, FindsTheChainAndCountsItsUse) {
  const auto tokens = counting(130);
  const auto blocks = publish(tokens, 130, salt_);
  EXPECT_EQ(match(tokens, 130, salt_), blocks);
  EXPECT_EQ(pool_.refs(blocks[0]), 2);
  EXPECT_EQ(pool_.refs(blocks[1]), 2);
}

TEST_F(PrefixCacheTest, StopsAtTheFirstDifference) {
  auto tokens = counting(192);
  const auto blocks = publish(tokens, 192, salt_);
  tokens[100] += 1;
  EXPECT_EQ(match(tokens, 192, salt_), std::vector<BlockId>{blocks[0]});
  tokens[3] += 1;
  EXPECT_TRUE(match(tokens, 192, salt_).empty());
}

TEST_F(PrefixCacheTest, SameBlockAfterAnotherPrefixIsAnotherBlock) {
  auto tokens = counting(128);
  publish(tokens, 128, salt_);
  auto other = tokens;
  other[0] += 1;
  const auto others = publish(other, 128, salt_);
  EXPECT_EQ(match(other, 128, salt_), others);
}

TEST_F(PrefixCacheTest, AnotherSaltFindsNothing) {
  const auto tokens = counting(128);
  publish(tokens, 128, salt_);
  EXPECT_TRUE(match(tokens, 128, root_key("b")).empty());
  EXPECT_TRUE(match(tokens, 128, root_key("")).empty());
}

// The same tokens computed as a prompt and as generated tokens have other bits (STYLE: promise 1).
TEST_F(PrefixCacheTest, AnotherFormIsAnotherBlock) {
  const auto tokens = counting(128);
  const auto generated = publish(tokens, 70, salt_);
  EXPECT_EQ(match(tokens, 128, salt_), std::vector<BlockId>{generated[0]});
  EXPECT_EQ(match(tokens, 70, salt_), generated);
  EXPECT_EQ(match(tokens, 71, salt_).size(), 1u);
  EXPECT_TRUE(match(tokens, 63, salt_).empty());
}

TEST_F(PrefixCacheTest, ASecondEqualBlockIsNotPublished) {
  const auto tokens = counting(64);
  const auto first = publish(tokens, 64, salt_);
  publish(tokens, 64, salt_);
  EXPECT_EQ(cache_.num_published(), 1);
  EXPECT_EQ(match(tokens, 64, salt_), first);
}

TEST_F(PrefixCacheTest, ForgetsTheLeastRecentlyUsedWhenBlocksRunOut) {
  const auto old_tokens = counting(64, 1), new_tokens = counting(64, 2);
  cache_.release(publish(old_tokens, 64, salt_)[0]);
  cache_.release(publish(new_tokens, 64, salt_)[0]);
  cache_.release(match(old_tokens, 64, salt_)[0]);  // used again: now the newest
  for (int i = 0; i < 7; ++i) cache_.take();
  EXPECT_EQ(match(old_tokens, 64, salt_).size(), 1u);
  EXPECT_TRUE(match(new_tokens, 64, salt_).empty());
}

TEST_F(PrefixCacheTest, ManyBlocksComeAndGo) {
  for (int32_t round = 0; round < 500; ++round) {
    const auto tokens = counting(128, round);
    const auto found = match(tokens, 128, salt_);
    const auto blocks = found.size() == 2 ? found : publish(tokens, 128, salt_);
    for (const BlockId block : blocks) cache_.release(block);
    if (found.size() == 1) cache_.release(found[0]);
    ASSERT_LE(cache_.num_published(), pool_.num_blocks());
    ASSERT_EQ(pool_.num_used(), 0) << "round " << round;
  }
}

TEST_F(PrefixCacheTest, ImportantRequestsKeepTheirBlocksLonger) {
  const auto background = counting(64, 1), urgent = counting(64, 2), ordinary = counting(64, 3);
  cache_.release(publish(urgent, 64, salt_, -1)[0]);
  cache_.release(publish(ordinary, 64, salt_, 0)[0]);
  cache_.release(publish(background, 64, salt_, 1)[0]);  // the newest, and the first to go
  for (int i = 0; i < 6; ++i) cache_.take();
  EXPECT_TRUE(match(background, 64, salt_).empty());
  cache_.take();
  EXPECT_TRUE(match(ordinary, 64, salt_).empty());
  EXPECT_EQ(match(urgent, 64, salt_).size(), 1u);
}

TEST_F(PrefixCacheTest, AnImportantUserMakesABlockImportant) {
  const auto shared = counting(64, 1), other = counting(64, 2);
  cache_.release(publish(shared, 64, salt_, 5)[0]);
  std::vector<BlockId> found;
  cache_.match(keys_of(shared, 64, salt_), -5, &found);
  cache_.release(found[0]);
  cache_.release(publish(other, 64, salt_)[0]);
  for (int i = 0; i < 7; ++i) cache_.take();
  EXPECT_EQ(match(shared, 64, salt_), found);
}

TEST_F(PrefixCacheTest, ListsWhatWasReleasedOnce) {
  const auto blocks = publish(counting(128), 128, salt_);
  cache_.release(blocks[1]);
  EXPECT_LT(cache_.next_released().value, 0);  // nobody wants the list
  cache_.list_released();
  match(counting(64), 64, salt_);
  cache_.release(blocks[0]);
  EXPECT_LT(cache_.next_released().value, 0);  // still in use
  cache_.release(blocks[0]);
  match(counting(64), 64, salt_);
  cache_.release(blocks[0]);
  EXPECT_EQ(cache_.next_released(), blocks[0]);
  EXPECT_LT(cache_.next_released().value, 0);
  ASSERT_NE(cache_.key_of(blocks[0]), nullptr);
  EXPECT_EQ(*cache_.key_of(blocks[0]), keys_of(counting(64), 64, salt_)[0]);
}

TEST(BlockKeyTest, FollowsFromSaltTokensAndForms) {
  KeyMaker maker;
  const auto key = [&](const char* salt, TokenId first, int32_t num_prompt) {
    const auto tokens = counting(128, first);
    return KeyChain(root_key(salt), 2).first(2, tokens, num_prompt, maker).back();
  };
  const BlockKey one = key("x", 0, 128);
  EXPECT_EQ(one, key("x", 0, 128));
  EXPECT_EQ(one, key("x", 0, 500));
  EXPECT_NE(one, key("y", 0, 128));
  EXPECT_NE(one, key("x", 1, 128));
  EXPECT_NE(one, key("x", 0, 127));
  EXPECT_NE(one, key("x", 0, 63));
}

TEST(WorthTest, FallsWithThePriorityValueWithinBounds) {
  EXPECT_EQ(worth_of(0, false), 4);
  EXPECT_EQ(worth_of(0, true), 5);
  EXPECT_EQ(worth_of(1, false), 3);
  EXPECT_EQ(worth_of(-1, false), 5);
  EXPECT_EQ(worth_of(std::numeric_limits<int32_t>::max(), false), 0);
  EXPECT_EQ(worth_of(std::numeric_limits<int32_t>::min(), true), kWorthLevels - 1);
}

}  // namespace
}  // namespace mole::runtime
