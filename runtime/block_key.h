// What a full block of the KV cache holds, as a key that is the same in every process: SHA-256 over
// the key of the block before it, how many of its tokens are prompt tokens, and the tokens. The
// first block's parent is the salt's key. So a key stands for the whole prefix, the attention form
// of each token, and the salt; nobody can make two prefixes meet in one key.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/sha256.h"

namespace mole::runtime {

using BlockKey = Sha256Digest;

/// What stands before the first block: equal only for equal salts.
BlockKey root_key(std::string_view salt);

/// Computes keys. Reused without allocating. Thread: one at a time.
class KeyMaker {
 public:
  /// `tokens` [kBlockTokens], of which the first `num_expanded` are prompt tokens
  /// (model::AttentionForm::kExpanded), the rest generated (kAbsorbed).
  BlockKey next(const BlockKey& parent, std::span<const TokenId> tokens, int32_t num_expanded);

 private:
  Sha256 sha_;
};

/// The keys of one sequence's full blocks, each computed once. Holds as long as tokens are only
/// appended: whatever may be taken back (a draft) must not be a token yet.
class KeyChain {
 public:
  KeyChain() = default;
  KeyChain(const BlockKey& root, size_t blocks_max) : root_(root) { keys_.reserve(blocks_max); }

  /// The keys of the first `blocks` full blocks of `tokens`, the first `num_prompt` of which are
  /// the prompt. Requires that so many blocks are full. Allocates nothing within blocks_max.
  std::span<const BlockKey> first(int32_t blocks, std::span<const TokenId> tokens,
                                  int32_t num_prompt, KeyMaker& maker);

 private:
  BlockKey root_;
  std::vector<BlockKey> keys_;
};

}  // namespace mole::runtime
