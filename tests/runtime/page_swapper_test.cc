// Which pages go and come, step by step, with a device whose time the test turns.
#include "runtime/page_swapper.h"

#include <gtest/gtest.h>

#include "runtime/scheduler.h"
#include "tests/runtime/test_requests.h"
#include "tests/sim/fake_swap.h"

namespace mole::runtime {
namespace {

constexpr TimeUs kPageUs = 100;  // a page takes up to four times that
constexpr TimeUs kLong = 10 * kPageUs;
constexpr int32_t kBlocks = 6;

class PageSwapperTest : public ::testing::Test {
 protected:
  PageSwapperTest() { make(0); }

  void make(int32_t slow_odds) {
    pool_ = std::make_unique<BlockPool>(kBlocks);
    cache_ = std::make_unique<PrefixCache>(pool_.get());
    device_ = std::make_unique<sim::FakeSwapDevice>(1, &store_, &truth_, &clock_, kPageUs,
                                                    slow_odds, memory_.shape().block_bytes());
    swapper_ = std::make_unique<PageSwapper>(device_.get(), pool_.get(), cache_.get(),
                                             memory_.shape().block_bytes());
    device_->start(&memory_, nullptr);
  }

  static std::vector<BlockKey> keys(uint64_t first, int32_t count) {
    std::vector<BlockKey> made;
    for (int32_t i = 0; i < count; ++i) made.push_back({{first, static_cast<uint64_t>(i), 0, 0}});
    return made;
  }
  void fill(BlockId block, const BlockKey& key) {
    std::fill_n(memory_.block(0, block.value), memory_.shape().block_bytes(),
                std::byte{static_cast<uint8_t>(16 * key.words[0] + key.words[1])});
  }
  bool holds(BlockId block, const BlockKey& key) {
    return *memory_.block(0, block.value) ==
           std::byte{static_cast<uint8_t>(16 * key.words[0] + key.words[1])};
  }
  // Full blocks of these keys, computed and no longer used.
  void compute(const std::vector<BlockKey>& wanted) {
    std::vector<BlockId> blocks;
    for (const BlockKey& key : wanted) {
      blocks.push_back(cache_->take());
      fill(blocks.back(), key);
      cache_->publish(blocks.back(), key, 0);
    }
    for (size_t i = blocks.size(); i-- > 0;) cache_->release(blocks[i]);
  }
  // Everything out of the cache.
  void evict_all() {
    std::vector<BlockId> blocks;
    while (pool_->num_free() > 0) blocks.push_back(cache_->take());
    for (const BlockId block : blocks) cache_->release(block);
  }
  void settle() {
    do {
      swapper_->poll();
      swapper_->write_back();
      clock_.advance_us(kLong);
    } while (swapper_->busy());
  }
  bool waits(const std::vector<BlockKey>& wanted, SwapWait* wait, const StepCost& cost = {}) {
    std::vector<BlockId> found;
    const int32_t count = cache_->match(wanted, 0, &found);
    const bool waiting = swapper_->wait_for_pages({.keys = wanted,
                                                   .found = count,
                                                   .num_prompt = 1 << 20,
                                                   .may_wait = may_wait_,
                                                   .now_us = clock_.now_us()},
                                                  cost, wait);
    for (const BlockId block : found) cache_->release(block);
    return waiting;
  }

  ManualClock clock_;
  model::KvCache memory_{{.num_layers = 2, .num_blocks = kBlocks, .entry_elements = 2}};
  sim::FakeSwapStore store_{2, 20, {}};
  sim::FakeSwapDevice::Truth truth_;
  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<PrefixCache> cache_;
  std::unique_ptr<sim::FakeSwapDevice> device_;
  std::unique_ptr<PageSwapper> swapper_;
  bool may_wait_ = true;
};

TEST_F(PageSwapperTest, WritesReleasedBlocksAndBringsThemBack) {
  const auto chain = keys(1, 3);
  compute(chain);
  settle();
  EXPECT_EQ(swapper_->stats().pages_written, 3);
  evict_all();
  SwapWait wait;
  EXPECT_TRUE(waits(chain, &wait));
  EXPECT_EQ(swapper_->num_loading(), 3);
  std::fill_n(memory_.block(1, 0), memory_.shape().block_bytes(), std::byte{0xee});
  settle();
  EXPECT_FALSE(waits(chain, &wait));
  std::vector<BlockId> found;
  ASSERT_EQ(cache_->match(chain, 0, &found), 3);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(holds(found[i], chain[i]));
  for (const BlockId block : found) {  // a draft's layer is not kept
    EXPECT_EQ(*memory_.block(1, block.value), std::byte{0});
  }
  EXPECT_EQ(swapper_->stats().waits, 1);
  EXPECT_GT(swapper_->stats().load_bytes_per_us, 0);
  EXPECT_EQ(device_->violation(), "");
}

TEST_F(PageSwapperTest, ARestartFindsThePages) {
  const auto chain = keys(1, 4);
  compute(chain);
  settle();
  make(0);
  EXPECT_EQ(swapper_->index().num_ready(), 4);
  SwapWait wait;
  EXPECT_TRUE(waits(chain, &wait));
  settle();
  std::vector<BlockId> found;
  EXPECT_EQ(cache_->match(chain, 0, &found), 4);
}

TEST_F(PageSwapperTest, WhatIsWrittenIsNotTakenAndCanBeTakenBack) {
  compute(keys(1, 6));
  swapper_->write_back();
  EXPECT_EQ(swapper_->num_writing(), 6);
  EXPECT_EQ(pool_->num_free(), 0);
  int32_t taken_back = 0;
  while (swapper_->take_back_write()) ++taken_back;
  EXPECT_EQ(taken_back, 5);  // the device is at one
  EXPECT_EQ(pool_->num_free(), 5);
  settle();
  EXPECT_EQ(pool_->num_free(), 6);
  EXPECT_EQ(swapper_->stats().pages_written, 1);
}

TEST_F(PageSwapperTest, LoadsCanBeTakenBackAndThenAreNotAskedForAgain) {
  const auto chain = keys(1, 5);
  compute(chain);
  settle();
  evict_all();
  SwapWait wait;
  EXPECT_TRUE(waits(chain, &wait));
  int32_t taken_back = 0;
  while (swapper_->take_back_load()) ++taken_back;
  EXPECT_EQ(taken_back, 4);
  settle();
  EXPECT_TRUE(waits(chain, &wait));  // the first came: it got further
  while (swapper_->take_back_load()) {
  }
  settle();
  EXPECT_TRUE(waits(chain, &wait));
  while (swapper_->take_back_load()) {
  }
  EXPECT_EQ(pool_->num_free() + swapper_->num_loading(), kBlocks);
  settle();
  EXPECT_EQ(pool_->num_free(), kBlocks);
}

TEST_F(PageSwapperTest, GivesUpInTimeAndWhenOthersPassTooOften) {
  make(1);  // every page takes a thousand times as long
  const auto chain = keys(1, 2);
  compute(chain);
  swapper_->write_back();
  clock_.advance_us(10'000 * kPageUs);
  swapper_->poll();
  evict_all();
  SwapWait wait;
  EXPECT_TRUE(waits(chain, &wait));
  may_wait_ = false;
  EXPECT_FALSE(waits(chain, &wait));
  EXPECT_EQ(swapper_->stats().gave_up, 1);
  may_wait_ = true;
  EXPECT_FALSE(waits(chain, &wait)) << "once is enough";
  SwapWait other;
  EXPECT_TRUE(waits(chain, &other));
  const auto late = other.give_up_us;
  while (clock_.now_us() < late && waits(chain, &other)) clock_.advance_us(kPageUs);
  EXPECT_FALSE(waits(chain, &other));
}

TEST_F(PageSwapperTest, ComputesWhatIsCheaperToCompute) {
  const auto chain = keys(1, 2);
  compute(chain);
  settle();
  evict_all();
  SwapWait first;
  EXPECT_TRUE(waits(chain, &first));  // measures the rate
  settle();
  evict_all();
  StepCost cost;
  cost.known = true;
  cost.seconds[kExpandedRows] = 1e-9;  // an expanded row: next to nothing
  SwapWait cheap;
  EXPECT_FALSE(waits(chain, &cheap, cost));
  EXPECT_EQ(swapper_->stats().recomputed, 1);
  cost.seconds[kExpandedRows] = 1e-3;
  SwapWait dear;
  EXPECT_TRUE(waits(chain, &dear, cost));
  EXPECT_EQ(dear.give_up_us - clock_.now_us(), 128'000);  // what computing 128 rows would take
}

TEST_F(PageSwapperTest, ADamagedPageIsAMiss) {
  const auto chain = keys(1, 2);
  compute(chain);
  settle();
  evict_all();
  std::array<SwapPageHeader, 20> headers;
  ASSERT_TRUE(store_.read_headers(0, headers).ok());
  for (uint64_t slot = 0; slot < headers.size(); ++slot) {
    if (headers[slot].magic == 0) continue;
    std::vector<std::byte> junk(static_cast<size_t>(memory_.shape().block_bytes()));
    std::span<std::byte> piece(junk);
    ASSERT_TRUE(store_.write_page(slot, headers[slot], std::span(&piece, 1)).ok());
  }
  SwapWait wait;
  EXPECT_TRUE(waits(chain, &wait));
  settle();
  EXPECT_FALSE(waits(chain, &wait));
  EXPECT_EQ(swapper_->stats().refused[static_cast<size_t>(SwapOutcome::kChecksum)], 2);
  EXPECT_EQ(swapper_->stats().pages_loaded, 0);
  EXPECT_EQ(swapper_->index().num_ready(), 0);
  EXPECT_EQ(pool_->num_free(), kBlocks);
}

}  // namespace
}  // namespace mole::runtime
