// Full blocks that can be found again by what they hold: the same tokens, computed in the same
// attention forms, after the same block, under the same salt. It is also the door to the block
// pool: a block that is taken for new tokens is forgotten here first.
//
// A published block gets a serial number that is never used again. The key of a block is (serial of
// the block before it, its tokens, how many of them are prompt tokens), the first block's parent
// being the salt. Hashes only find candidates; the key is always compared whole, so that a
// collision, even a crafted one, costs a miss and never gives one request another's entries. Least
// recently used first out; a sequence gives back its last block first, so that a block goes before
// those that it needs to be found. All memory is taken at construction. Thread: engine.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "runtime/block_pool.h"

namespace mole::runtime {

/// SHA-256 of what separates users of the cache: equal only for equal salts.
struct SaltDigest {
  std::array<uint64_t, 4> words{};
  bool operator==(const SaltDigest&) const = default;
};
SaltDigest digest_salt(std::string_view salt);

/// A place in a chain of published blocks.
struct ChainLink {
  uint64_t serial = 0;  // of the last block; 0 = before the first
  int32_t blocks = 0;   // so many blocks lie in the chain
};

class PrefixCache {
 public:
  /// `pool` must outlive the cache and be used only through it.
  explicit PrefixCache(BlockPool* pool);

  /// What a block must hold to be the same: tokens [kBlockTokens]; the first `num_expanded` of them
  /// are prompt tokens (model::AttentionForm::kExpanded), the rest generated (kAbsorbed).
  struct Contents {
    std::span<const TokenId> tokens;
    int32_t num_expanded = 0;
  };
  static Contents block_contents(std::span<const TokenId> tokens, int32_t num_prompt,
                                 int32_t block);

  /// Finds the longest chain of published blocks for the first `tokens_max` of `tokens`, of which
  /// the first `num_prompt` are the prompt. Appends the blocks to `blocks`, each with one more
  /// user.
  ChainLink match(const SaltDigest& salt, std::span<const TokenId> tokens, int32_t num_prompt,
                  int32_t tokens_max, std::vector<BlockId>* blocks);

  /// Makes `block`, which is full and in use, findable as the one after `link`; returns the link of
  /// the block itself. If an equal block is there already, that one stays and its link is returned.
  ChainLink publish(BlockId block, const SaltDigest& salt, ChainLink link,
                    const Contents& contents);

  /// A block for new tokens, with one user. Requires num_free() > 0.
  BlockId take();
  /// One user less.
  void release(BlockId block);

  int32_t num_free() const { return pool_->num_free(); }
  int32_t num_published() const { return num_published_; }

 private:
  struct Entry {
    uint64_t serial = 0;  // 0 = not published
    uint64_t hash = 0;
    uint64_t parent = 0;
    SaltDigest salt;  // compared for a first block (parent 0)
    int32_t num_expanded = 0;
    int32_t next_in_bucket = -1;
  };
  int32_t find(uint64_t hash, const SaltDigest& salt, uint64_t parent,
               const Contents& contents) const;
  void forget(int32_t block);
  int32_t& bucket(uint64_t hash) { return buckets_[hash & (buckets_.size() - 1)]; }

  BlockPool* pool_;
  std::vector<Entry> entries_;    // [num_blocks]
  std::vector<TokenId> tokens_;   // [num_blocks, kBlockTokens]
  std::vector<int32_t> buckets_;  // power of two; first block of each bucket, -1 = none
  uint64_t next_serial_ = 1;
  int32_t num_published_ = 0;
};

}  // namespace mole::runtime
