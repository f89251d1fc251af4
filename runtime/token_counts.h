// How often each token stands in a sequence, for the penalties: kept up to date token by token, so
// that a step's work doesn't grow with the sequence. Thread: engine.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace mole::runtime {

class TokenCounts {
 public:
  /// Off: counts nothing and takes no memory.
  TokenCounts() = default;
  /// `prompt` counts as seen but not as generated. At most `distinct_max` different tokens will
  /// come.
  TokenCounts(int32_t vocab_size, std::span<const TokenId> prompt, size_t distinct_max)
      : by_token_(static_cast<size_t>(vocab_size)) {
    seen_.reserve(distinct_max);
    for (const TokenId token : prompt) see(token);
  }

  bool enabled() const { return !by_token_.empty(); }
  void add_generated(TokenId token) {
    if (!enabled()) return;
    see(token);
    ++by_token_[static_cast<size_t>(token)].generated;
  }
  /// Every token of the sequence once, in the order of first appearance.
  std::span<const TokenId> seen() const { return seen_; }
  int32_t generated(TokenId token) const { return by_token_[static_cast<size_t>(token)].generated; }

 private:
  struct Count {
    int32_t generated = 0;
    bool seen = false;
  };
  void see(TokenId token) {
    Count& count = by_token_[static_cast<size_t>(token)];
    if (!count.seen) seen_.push_back(token);
    count.seen = true;
  }
  std::vector<Count> by_token_;  // [vocab_size]
  std::vector<TokenId> seen_;
};

}  // namespace mole::runtime
