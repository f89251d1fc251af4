// Who uses which block of the KV cache: a reference count a block, and the free ones in the order
// in which they will be taken again. Knows nothing of tokens. All memory is taken at construction;
// every call costs O(1). Thread: engine.
//
// Free blocks lie in queues, one a level of worth. Worthless blocks are taken first. Of the others
// that one is taken whose age, counted in releases, is greatest after each level of worth has made
// it num_blocks() releases younger: a block of level 2 outlives one of level 0 by about two
// turnovers of the cache, and nothing stays for ever.
//
// A free block may be held: its contents are being read by somebody else (a page on its way to the
// swap file), so it is not taken until it is let go. It keeps its place in its queue.
// Invariant: a block is in a queue exactly if its count is 0.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/ids.h"

namespace mole::runtime {

/// Levels of worth of a free block whose contents may be found again: 0 … kWorthLevels - 1.
inline constexpr int32_t kWorthLevels = 9;
inline constexpr int32_t kWorthless = -1;

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);

  int32_t num_blocks() const { return num_blocks_; }
  /// Blocks that allocate() can give: without users, not held.
  int32_t num_free() const { return num_free_; }
  /// Blocks with users.
  int32_t num_used() const { return num_used_; }
  int32_t num_held() const { return num_held_; }
  int32_t refs(BlockId id) const { return blocks_[index(id)].refs; }
  bool held(BlockId id) const { return blocks_[index(id)].held; }

  /// Takes the free block of the least worth; its count becomes 1. Requires num_free() > 0.
  BlockId allocate();
  /// One more user; a free block leaves its queue.
  void add_ref(BlockId id);
  /// One user less; the last one leaves the block with `worth`.
  void release(BlockId id, int32_t worth);

  /// Keeps a block from being taken, whether it has users or not. Requires that it is not held.
  void hold(BlockId id);
  void let_go(BlockId id);

 private:
  static constexpr int32_t kQueues = kWorthLevels + 1;  // the first is for worthless blocks
  struct Block {
    int32_t refs = 0;
    uint64_t released = 0;  // the release that brought it here, counted over all
    int32_t prev = 0;       // neighbours in the queue; blocks_[num_blocks_ + q] is both ends of q
    int32_t next = 0;
    bool held = false;
  };
  size_t index(BlockId id) const;
  void unlink(int32_t block);
  void link(int32_t block, int32_t queue);
  int32_t oldest_of(int32_t queue) const;
  int32_t least_worth() const;

  const int32_t num_blocks_;
  std::vector<Block> blocks_;  // [num_blocks + kQueues]
  uint64_t num_releases_ = 0;
  int32_t num_free_ = 0, num_used_ = 0, num_held_ = 0;
};

}  // namespace mole::runtime
