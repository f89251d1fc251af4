// Drafts by looking back: where the last few tokens stood before, what followed them then is likely
// to follow again (lists, code, quotations of the prompt). Every place of each n-gram of the least
// length is kept in a chain, newest first; a draft compares a bounded number of them and takes the
// longest match, the newest of equals. Costs O(1) a token and a draft, whatever the history; all
// memory is taken at construction. Source: prompt lookup decoding (A. Saxena, 2023); the index is
// ours. Thread: one at a time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace mole::runtime {

struct NgramOptions {
  int32_t min = 0;  // tokens that must agree at least; 0 = no index
  int32_t max = 0;  // tokens compared at most
};

class NgramIndex {
 public:
  /// Off: drafts nothing and takes no memory.
  NgramIndex() = default;
  NgramIndex(const NgramOptions& options, size_t tokens_max);

  bool enabled() const { return options_.min > 0; }
  /// Takes in what `tokens` has more than at the last call. `tokens` only ever grows.
  void extend(std::span<const TokenId> tokens);
  /// Appends up to `count` tokens to `drafts` (which is empty) that may follow `tokens`, all of
  /// which were taken in. Never reallocates if `drafts` has room.
  void propose(std::span<const TokenId> tokens, int32_t count, std::vector<TokenId>* drafts) const;

 private:
  size_t slot_of(std::span<const TokenId> tokens, int32_t end) const;

  NgramOptions options_;
  std::vector<int32_t> newest_;    // hash table, open addressing: end of the newest such n-gram, or
                                   // 0; power of two, at most half full
  std::vector<int32_t> previous_;  // [tokens_max + 1] by end: the one before it, or 0
  int32_t num_taken_ = 0;
};

}  // namespace mole::runtime
