#include "runtime/ngram_index.h"

#include <algorithm>
#include <bit>

#include "base/check.h"
#include "runtime/limits.h"

namespace mole::runtime {

NgramIndex::NgramIndex(const NgramOptions& options, size_t tokens_max)
    : options_(options),
      newest_(std::bit_ceil(2 * tokens_max + 2), 0),
      previous_(tokens_max + 1, 0) {
  MOLE_CHECK_GE(options.min, 1);
  MOLE_CHECK_GE(options.max, options.min);
}

// Where the n-gram that ends before position `end` has its chain, or could have it.
size_t NgramIndex::slot_of(std::span<const TokenId> tokens, int32_t end) const {
  const auto gram =
      tokens.subspan(static_cast<size_t>(end - options_.min), static_cast<size_t>(options_.min));
  uint64_t hash = 0;
  for (const TokenId token : gram) {
    hash = (hash ^ static_cast<uint32_t>(token)) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  const size_t mask = newest_.size() - 1;
  size_t slot = hash & mask;
  while (newest_[slot] != 0 &&
         !std::equal(gram.begin(), gram.end(), tokens.begin() + (newest_[slot] - options_.min))) {
    slot = (slot + 1) & mask;
  }
  return slot;
}

void NgramIndex::extend(std::span<const TokenId> tokens) {
  if (!enabled()) return;
  MOLE_CHECK_LT(tokens.size(), previous_.size());
  const auto num_tokens = static_cast<int32_t>(tokens.size());
  for (int32_t end = std::max(num_taken_ + 1, options_.min); end <= num_tokens; ++end) {
    const size_t slot = slot_of(tokens, end);
    previous_[static_cast<size_t>(end)] = newest_[slot];
    newest_[slot] = end;
  }
  num_taken_ = num_tokens;
}

void NgramIndex::propose(std::span<const TokenId> tokens, int32_t count,
                         std::vector<TokenId>* drafts) const {
  const auto num_tokens = static_cast<int32_t>(tokens.size());
  if (!enabled() || num_tokens < options_.min) return;
  MOLE_CHECK_EQ(num_taken_, num_tokens);
  int32_t best_end = 0, best_length = 0;
  int32_t end = previous_[static_cast<size_t>(num_tokens)];
  for (int32_t seen = 0; end != 0 && seen < kNgramPlacesMax; ++seen) {
    int32_t length = options_.min;
    while (length < std::min(options_.max, end) &&
           tokens[static_cast<size_t>(end - length - 1)] ==
               tokens[static_cast<size_t>(num_tokens - length - 1)]) {
      ++length;
    }
    if (length > best_length) best_end = end, best_length = length;
    if (length == options_.max) break;
    end = previous_[static_cast<size_t>(end)];
  }
  if (best_end == 0) return;
  // Behind the last token the draft goes on from itself: a text that repeats goes on repeating.
  for (int32_t i = 0; i < count; ++i) {
    const auto at = static_cast<size_t>(best_end + i);
    drafts->push_back(at < tokens.size() ? tokens[at] : (*drafts)[at - tokens.size()]);
  }
}

}  // namespace mole::runtime
