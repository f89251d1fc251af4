#include "runtime/block_key.h"

#include <algorithm>

#include "base/check.h"
#include "model/kv_cache.h"
#include "runtime/injected_bug.h"

namespace mole::runtime {

using model::kBlockTokens;

BlockKey root_key(std::string_view salt) {
  return Sha256().update(std::as_bytes(std::span(salt))).finish();
}

BlockKey KeyMaker::next(const BlockKey& parent, std::span<const TokenId> tokens,
                        int32_t num_expanded) {
  MOLE_CHECK_EQ(tokens.size(), size_t{kBlockTokens});
  if (injected(InjectedBug::kWrongFormHash)) num_expanded = 0;
  sha_.update(std::as_bytes(std::span(parent.words)));
  sha_.update(std::as_bytes(std::span(&num_expanded, 1)));
  return sha_.update(std::as_bytes(tokens)).finish();
}

std::span<const BlockKey> KeyChain::first(int32_t blocks, std::span<const TokenId> tokens,
                                          int32_t num_prompt, KeyMaker& maker) {
  MOLE_CHECK_LE(int64_t{blocks} * kBlockTokens, static_cast<int64_t>(tokens.size()));
  for (auto block = static_cast<int32_t>(keys_.size()); block < blocks; ++block) {
    const int32_t begin = block * kBlockTokens;
    keys_.push_back(maker.next(keys_.empty() ? root_ : keys_.back(),
                               tokens.subspan(static_cast<size_t>(begin), kBlockTokens),
                               std::clamp(num_prompt - begin, 0, kBlockTokens)));
  }
  return std::span(keys_).first(static_cast<size_t>(blocks));
}

}  // namespace mole::runtime
