#include "runtime/block_pool.h"

#include "base/check.h"
#include "runtime/injected_bug.h"

namespace mole::runtime {

BlockPool::BlockPool(int32_t num_blocks)
    : num_blocks_(num_blocks), blocks_(static_cast<size_t>(num_blocks) + kQueues) {
  MOLE_CHECK_GE(num_blocks, 1);
  for (int32_t queue = 0; queue < kQueues; ++queue) {
    Block& ends = blocks_[num_blocks + queue];
    ends.prev = ends.next = num_blocks + queue;
  }
  for (int32_t block = num_blocks; block-- > 0;) link(block, 0);
}

size_t BlockPool::index(BlockId id) const {
  MOLE_CHECK_GE(id.value, 0);
  MOLE_CHECK_LT(id.value, num_blocks_);
  return static_cast<size_t>(id.value);
}

void BlockPool::unlink(int32_t block) {
  Block& self = blocks_[block];
  blocks_[self.prev].next = self.next;
  blocks_[self.next].prev = self.prev;
  if (!self.held) --num_free_;
}

// At the end; a worthless block at the beginning, so that memory that was touched already is taken
// before memory that never was.
void BlockPool::link(int32_t block, int32_t queue) {
  Block& self = blocks_[block];
  const int32_t ends = num_blocks_ + queue;
  self.released = num_releases_++;
  self.next = queue == 0 ? blocks_[ends].next : ends;
  self.prev = blocks_[self.next].prev;
  blocks_[self.prev].next = block;
  blocks_[self.next].prev = block;
  if (!self.held) ++num_free_;
}

// The first of a queue that nobody holds, or -1. Few blocks are held at a time, and they are
// looked past.
int32_t BlockPool::oldest_of(int32_t queue) const {
  const int32_t ends = num_blocks_ + queue;
  int32_t block = blocks_[ends].next;
  while (block != ends && blocks_[block].held && !injected(InjectedBug::kPageReusedWhileWritten)) {
    block = blocks_[block].next;
  }
  return block == ends ? -1 : block;
}

int32_t BlockPool::least_worth() const {
  int32_t chosen = -1;
  uint64_t soonest = 0;
  for (int32_t queue = 1; queue < kQueues; ++queue) {
    const int32_t block = oldest_of(queue);
    if (block < 0) continue;
    const uint64_t grace = static_cast<uint64_t>(queue - 1) * static_cast<uint64_t>(num_blocks_);
    const uint64_t due = blocks_[block].released + grace;
    if (chosen >= 0 && due >= soonest) continue;
    chosen = block;
    soonest = due;
  }
  return chosen;
}

BlockId BlockPool::allocate() {
  MOLE_CHECK_GT(num_free_, 0);
  int32_t chosen = oldest_of(0);
  if (chosen < 0) chosen = least_worth();
  MOLE_CHECK_GE(chosen, 0);
  MOLE_CHECK_EQ(blocks_[chosen].refs, 0);
  unlink(chosen);
  blocks_[chosen].refs = 1;
  ++num_used_;
  return BlockId{chosen};
}

void BlockPool::add_ref(BlockId id) {
  Block& block = blocks_[index(id)];
  if (block.refs == 0) {
    unlink(id.value);
    ++num_used_;
  }
  ++block.refs;
}

void BlockPool::release(BlockId id, int32_t worth) {
  Block& block = blocks_[index(id)];
  MOLE_CHECK_GT(block.refs, 0);
  MOLE_CHECK_GE(worth, kWorthless);
  MOLE_CHECK_LT(worth, kWorthLevels);
  if (--block.refs > 0) return;
  --num_used_;
  link(id.value, worth + 1);
}

void BlockPool::hold(BlockId id) {
  Block& block = blocks_[index(id)];
  MOLE_CHECK(!block.held);
  block.held = true;
  ++num_held_;
  if (block.refs == 0) --num_free_;
}

void BlockPool::let_go(BlockId id) {
  Block& block = blocks_[index(id)];
  MOLE_CHECK(block.held);
  block.held = false;
  --num_held_;
  if (block.refs == 0) ++num_free_;
}

}  // namespace mole::runtime
