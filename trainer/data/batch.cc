#include "trainer/data/batch.h"

#include "base/check.h"

namespace mole::trainer {

void TokenBatch::add(TokenId bos, std::span<const TokenId> inputs,
                     std::span<const TokenId> targets) {
  ids_.insert(ids_.end(), inputs.begin(), inputs.end());
  for (TokenId target : targets) {
    targets_.push_back(target == bos ? -1 : target);
    counted_ += target != bos;
  }
  starts_.push_back(static_cast<int32_t>(ids_.size()));
  MOLE_CHECK_EQ(ids_.size(), targets_.size());
}

void TokenBatch::add_after_bos(TokenId bos, std::span<const TokenId> window) {
  MOLE_CHECK(!window.empty());
  ids_.push_back(bos);
  add(bos, window.first(window.size() - 1), window);
}

void TokenBatch::add_shifted(TokenId bos, std::span<const TokenId> window) {
  MOLE_CHECK_GE(window.size(), size_t{2});
  add(bos, window.first(window.size() - 1), window.subspan(1));
}

void TokenBatch::clear() {
  ids_.clear();
  targets_.clear();
  starts_.assign(1, 0);
  counted_ = 0;
}

model::SequenceBatch TokenBatch::view(int64_t begin, int64_t end) const {
  const int32_t first = starts_[static_cast<size_t>(begin)];
  view_starts_.clear();
  for (int64_t s = begin; s <= end; ++s) {
    view_starts_.push_back(starts_[static_cast<size_t>(s)] - first);
  }
  const auto size = static_cast<size_t>(view_starts_.back());
  return {.token_ids = std::span(ids_).subspan(static_cast<size_t>(first), size),
          .sequence_starts = view_starts_,
          .targets = std::span(targets_).subspan(static_cast<size_t>(first), size)};
}

}  // namespace mole::trainer
