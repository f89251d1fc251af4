#include "runtime/block_pool.h"

#include "base/check.h"

namespace mole::runtime {

BlockPool::BlockPool(int32_t num_blocks) : blocks_(static_cast<size_t>(num_blocks) + 1) {
  MOLE_CHECK_GE(num_blocks, 1);
  const int32_t ends = num_blocks;
  blocks_[ends].prev = blocks_[ends].next = ends;
  for (int32_t block = 0; block < num_blocks; ++block) link_before(block, ends);
}

size_t BlockPool::index(BlockId id) const {
  MOLE_CHECK_GE(id.value, 0);
  MOLE_CHECK_LT(id.value, num_blocks());
  return static_cast<size_t>(id.value);
}

void BlockPool::unlink(int32_t block) {
  Block& self = blocks_[block];
  blocks_[self.prev].next = self.next;
  blocks_[self.next].prev = self.prev;
  --num_free_;
}

void BlockPool::link_before(int32_t block, int32_t successor) {
  Block& self = blocks_[block];
  self.next = successor;
  self.prev = blocks_[successor].prev;
  blocks_[self.prev].next = block;
  blocks_[successor].prev = block;
  ++num_free_;
}

BlockId BlockPool::allocate() {
  MOLE_CHECK_GT(num_free_, 0);
  const int32_t block = blocks_.back().next;
  MOLE_CHECK_EQ(blocks_[block].refs, 0);
  unlink(block);
  blocks_[block].refs = 1;
  return BlockId{block};
}

void BlockPool::add_ref(BlockId id) {
  Block& block = blocks_[index(id)];
  if (block.refs == 0) unlink(id.value);
  ++block.refs;
}

void BlockPool::release(BlockId id, Reuse reuse) {
  Block& block = blocks_[index(id)];
  MOLE_CHECK_GT(block.refs, 0);
  if (--block.refs > 0) return;
  const int32_t ends = num_blocks();
  link_before(id.value, reuse == Reuse::kFirst ? blocks_[ends].next : ends);
}

}  // namespace mole::runtime
