#include "runtime/prefix_cache.h"

#include <algorithm>
#include <bit>
#include <random>

#include "base/check.h"
#include "runtime/injected_bug.h"

namespace mole::runtime {

int32_t worth_of(int32_t priority, bool found_again) {
  constexpr int32_t kMiddle = 4, kMost = kWorthLevels - 2;
  const int64_t value = priority;
  const auto steps = static_cast<int32_t>(std::bit_width(static_cast<uint64_t>(std::abs(value))));
  const int32_t level = std::clamp(value > 0 ? kMiddle - steps : kMiddle + steps, 0, kMost);
  return level + (found_again ? 1 : 0);
}

PrefixCache::PrefixCache(BlockPool* pool)
    : pool_(pool),
      bucket_secret_(std::random_device{}() | 1u),
      entries_(pool->num_blocks()),
      buckets_(std::bit_ceil(static_cast<size_t>(pool->num_blocks()) * 2), -1),
      released_(pool->num_blocks()) {}

size_t PrefixCache::bucket_of(const BlockKey& key) const {
  const uint64_t mixed = (key.words[0] ^ bucket_secret_) * 0x9E3779B97F4A7C15u;
  return (mixed >> 32) & (buckets_.size() - 1);
}

BlockId PrefixCache::find(const BlockKey& key) const {
  int32_t block = buckets_[bucket_of(key)];
  while (block >= 0 && entries_[block].key != key) block = entries_[block].next_in_bucket;
  return BlockId{block};
}

int32_t PrefixCache::match(std::span<const BlockKey> keys, int32_t priority,
                           std::vector<BlockId>* blocks) {
  int32_t count = 0;
  for (const BlockKey& key : keys) {
    const BlockId block = find(key);
    if (block.value < 0) break;
    // The first block of a chain is the one most requests share: forgetting it there shows soonest.
    if (!injected(InjectedBug::kForgottenRefcount) || count > 0) pool_->add_ref(block);
    Entry& entry = entries_[block.value];
    entry.found_again = true;
    entry.priority = std::min(entry.priority, priority);
    blocks->push_back(block);
    ++count;
  }
  return count;
}

void PrefixCache::publish(BlockId block, const BlockKey& key, int32_t priority) {
  MOLE_CHECK_GT(pool_->refs(block), 0);
  if (find(key).value >= 0) return;
  Entry& entry = entries_[block.value];
  MOLE_CHECK(!entry.published);
  int32_t& first = buckets_[bucket_of(key)];
  entry.key = key;
  entry.published = true;
  entry.found_again = false;
  entry.priority = priority;
  entry.next_in_bucket = first;
  first = block.value;
  ++num_published_;
}

void PrefixCache::forget(int32_t block) {
  Entry& entry = entries_[block];
  if (!entry.published) return;
  int32_t* at = &buckets_[bucket_of(entry.key)];
  while (*at != block) at = &entries_[*at].next_in_bucket;
  *at = entry.next_in_bucket;
  entry.published = false;
  --num_published_;
}

BlockId PrefixCache::take() {
  const BlockId block = pool_->allocate();
  forget(block.value);
  return block;
}

void PrefixCache::release(BlockId block) {
  Entry& entry = entries_[block.value];
  const int32_t worth = entry.published ? worth_of(entry.priority, entry.found_again) : kWorthless;
  pool_->release(block, worth);
  if (!list_released_ || !entry.published || entry.listed || pool_->refs(block) > 0) return;
  entry.listed = true;
  released_[(released_first_ + num_released_++) % released_.size()] = block.value;
}

BlockId PrefixCache::next_released() {
  if (num_released_ == 0) return BlockId{-1};
  const int32_t block = released_[released_first_];
  released_first_ = (released_first_ + 1) % released_.size();
  --num_released_;
  entries_[block].listed = false;
  return BlockId{block};
}

const BlockKey* PrefixCache::key_of(BlockId block) const {
  const Entry& entry = entries_[block.value];
  return entry.published ? &entry.key : nullptr;
}

}  // namespace mole::runtime
