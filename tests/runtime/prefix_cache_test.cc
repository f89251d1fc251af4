#include "runtime/prefix_cache.h"

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
                               const SaltDigest& salt) {
    std::vector<BlockId> blocks;
    ChainLink link;
    for (int32_t i = 0; (i + 1) * kBlockTokens <= static_cast<int32_t>(tokens.size()); ++i) {
      blocks.push_back(cache_.take());
      link = cache_.publish(blocks.back(), salt, link,
                            PrefixCache::block_contents(tokens, num_prompt, i));
    }
    return blocks;
  }
  std::vector<BlockId> match(const std::vector<TokenId>& tokens, int32_t num_prompt,
                             const SaltDigest& salt, int32_t tokens_max = 1 << 20) {
    std::vector<BlockId> blocks;
    const auto most = std::min(tokens_max, static_cast<int32_t>(tokens.size()));
    cache_.match(salt, tokens, num_prompt, most, &blocks);
    return blocks;
  }

  BlockPool pool_{8};
  PrefixCache cache_{&pool_};
  const SaltDigest salt_ = digest_salt("a");
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

TEST_F(PrefixCacheTest, TakesNoMoreThanAskedFor) {
  const auto tokens = counting(128);
  publish(tokens, 128, salt_);
  EXPECT_EQ(match(tokens, 128, salt_, 127).size(), 1u);
  EXPECT_EQ(match(tokens, 128, salt_, 63).size(), 0u);
  EXPECT_EQ(match(tokens, 128, salt_, 128).size(), 2u);
}

TEST_F(PrefixCacheTest, AnotherSaltFindsNothing) {
  const auto tokens = counting(128);
  publish(tokens, 128, salt_);
  EXPECT_TRUE(match(tokens, 128, digest_salt("b")).empty());
  EXPECT_TRUE(match(tokens, 128, digest_salt("")).empty());
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

TEST(SaltDigestTest, DiffersByText) {
  EXPECT_EQ(digest_salt("x"), digest_salt("x"));
  EXPECT_NE(digest_salt("x"), digest_salt("y"));
}

}  // namespace
}  // namespace mole::runtime
