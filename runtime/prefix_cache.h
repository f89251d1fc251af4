// Full blocks that can be found again by what they hold (runtime/block_key.h): the same tokens,
// computed in the same attention forms, after the same prefix, under the same salt. It is also the
// door to the block pool: a block that is taken for new tokens is forgotten here first.
//
// Which blocks go first: those of less important requests, those that were never found again, and
// the least recently used (block_pool.h has the rule). A sequence gives back its last block first,
// so that a block goes before those that it needs to be found. Bounded: at most one entry a block;
// all memory is taken at construction; every call costs O(1) a block. Thread: engine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "runtime/block_key.h"
#include "runtime/block_pool.h"

namespace mole::runtime {

class PrefixCache {
 public:
  /// `pool` must outlive the cache and be used only through it.
  explicit PrefixCache(BlockPool* pool);

  /// Finds the longest beginning of `keys` of which every block is here, and appends these blocks
  /// to `blocks`, each with one more user. `priority` is the request's: lower is more important.
  /// Returns how many there are.
  int32_t match(std::span<const BlockKey> keys, int32_t priority, std::vector<BlockId>* blocks);

  /// The block of that key, or a negative id.
  BlockId find(const BlockKey& key) const;

  /// Makes `block`, which is full and in use, findable. If a block of that key is there already,
  /// that one stays and `block` does not become findable.
  void publish(BlockId block, const BlockKey& key, int32_t priority);

  /// A block for new tokens, with one user. Requires num_free() > 0.
  BlockId take();
  /// One user less.
  void release(BlockId block);

  int32_t num_free() const { return pool_->num_free(); }
  int32_t num_published() const { return num_published_; }

  /// Published blocks whose last user left, oldest first: what a swap file may want. Each is listed
  /// once until it is taken from the list; it may have new users, other contents or none by then.
  /// Returns a negative id when there is none.
  BlockId next_released();
  /// Null if the block is not published.
  const BlockKey* key_of(BlockId block) const;
  /// Keeps the list of released blocks. Without it the list stays empty.
  void list_released() { list_released_ = true; }

 private:
  struct Entry {
    BlockKey key;
    bool published = false;
    bool found_again = false;
    bool listed = false;  // lies in released_; survives the entry's other fields
    int32_t priority = 0;
    int32_t next_in_bucket = -1;
  };
  void forget(int32_t block);
  size_t bucket_of(const BlockKey& key) const;

  BlockPool* pool_;
  const uint64_t bucket_secret_;   // or one could choose prompts that all meet in one bucket
  std::vector<Entry> entries_;     // [num_blocks]
  std::vector<int32_t> buckets_;   // power of two; first block of each bucket, -1 = none
  std::vector<int32_t> released_;  // [num_blocks], a ring
  size_t released_first_ = 0, num_released_ = 0;
  bool list_released_ = false;
  int32_t num_published_ = 0;
};

/// How much a free block is worth to block_pool.h: four levels either side of priority 0, each
/// covering twice the priorities of the one before (-1, -2 to -3, -4 to -7, …), and one level more
/// for a block that was found at least once.
int32_t worth_of(int32_t priority, bool found_again);

}  // namespace mole::runtime
