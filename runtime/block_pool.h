// Who uses which block of the KV cache: a reference count a block, and the free ones in the order
// in which they will be taken again. Knows nothing of tokens. All memory is taken at construction.
// Invariant: a block is in the free list exactly if its count is 0. Thread: engine.
#pragma once

#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace mole::runtime {

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);

  int32_t num_blocks() const { return static_cast<int32_t>(blocks_.size()) - 1; }
  int32_t num_free() const { return num_free_; }
  int32_t num_used() const { return num_blocks() - num_free_; }
  int32_t refs(BlockId id) const { return blocks_[index(id)].refs; }

  /// Takes the free block that comes first in the list; its count becomes 1. Requires num_free() >
  /// 0.
  BlockId allocate();
  /// One more user; a free block leaves the free list.
  void add_ref(BlockId id);

  /// Where a block goes that nobody uses any more.
  enum class Reuse {
    kFirst,  // its contents are worthless: taken next
    kLast,   // its contents may be found again: taken when all older ones are gone
  };
  /// One user less.
  void release(BlockId id, Reuse reuse);

 private:
  struct Block {
    int32_t refs = 0;
    int32_t prev = 0;  // neighbours in the free list; the last element of blocks_ is its both ends
    int32_t next = 0;
  };
  size_t index(BlockId id) const;
  void unlink(int32_t block);
  void link_before(int32_t block, int32_t successor);

  std::vector<Block> blocks_;  // [num_blocks + 1]
  int32_t num_free_ = 0;
};

}  // namespace mole::runtime
