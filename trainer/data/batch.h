// Windows of tokens as the model takes them: inputs, targets and sequence starts of whole
// sequences.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"
#include "model/trainable.h"
#include "trainer/data/dataset.h"

namespace mole::trainer {

/// Owns what a model::SequenceBatch views.
class TokenBatch {
 public:
  /// A window whose tokens are its targets: the input is BOS and all of them but the last, as
  /// serving puts BOS before a prompt. No one writes BOS, so a BOS inside is not counted.
  void add_after_bos(TokenId bos, std::span<const TokenId> window);
  /// A window of L + 1 tokens: inputs are the first L, targets the last L.
  void add_shifted(TokenId bos, std::span<const TokenId> window);
  void clear();

  model::SequenceBatch view() const { return view(0, num_sequences()); }
  /// Sequences [begin, end) alone. The view is valid until the next call.
  model::SequenceBatch view(int64_t begin, int64_t end) const;

  int64_t num_sequences() const { return static_cast<int64_t>(starts_.size()) - 1; }
  int64_t num_tokens() const { return static_cast<int64_t>(ids_.size()); }
  int64_t counted_tokens() const { return counted_; }
  const std::vector<TokenId>& targets() const { return targets_; }

 private:
  void add(TokenId bos, std::span<const TokenId> inputs, std::span<const TokenId> targets);
  std::vector<TokenId> ids_, targets_;
  std::vector<int32_t> starts_ = {0};
  mutable std::vector<int32_t> view_starts_;  // starts of the last view, from 0
  int64_t counted_ = 0;
};

}  // namespace mole::trainer
