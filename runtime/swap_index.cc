#include "runtime/swap_index.h"

#include <bit>
#include <random>

#include "base/check.h"

namespace mole::runtime {

SwapIndex::SwapIndex(int32_t num_slots)
    : num_slots_(num_slots),
      empty_(num_slots),
      given_up_(num_slots + 1),
      bucket_secret_(std::random_device{}() | 1u),
      slots_(static_cast<size_t>(num_slots) + 2),
      buckets_(std::bit_ceil(static_cast<size_t>(num_slots) + 1), -1) {
  MOLE_CHECK_GE(num_slots, 1);
  for (const int32_t list : {empty_, given_up_}) slots_[list].prev = slots_[list].next = list;
  for (int32_t slot = 0; slot < num_slots; ++slot) append(slot, empty_);
}

size_t SwapIndex::bucket_of(const BlockKey& key) const {
  const uint64_t mixed = (key.words[0] ^ bucket_secret_) * 0x9E3779B97F4A7C15u;
  return (mixed >> 32) & (buckets_.size() - 1);
}

void SwapIndex::unlink(int32_t slot) {
  slots_[slots_[slot].prev].next = slots_[slot].next;
  slots_[slots_[slot].next].prev = slots_[slot].prev;
}

void SwapIndex::append(int32_t slot, int32_t list) {
  slots_[slot].next = list;
  slots_[slot].prev = slots_[list].prev;
  slots_[slots_[slot].prev].next = slot;
  slots_[list].prev = slot;
}

int32_t SwapIndex::find(const BlockKey& key) const {
  int32_t slot = buckets_[bucket_of(key)];
  while (slot >= 0 && slots_[slot].key != key) slot = slots_[slot].next_in_bucket;
  return slot;
}

void SwapIndex::forget(int32_t slot) {
  Slot& self = slots_[slot];
  int32_t* at = &buckets_[bucket_of(self.key)];
  while (*at != slot) at = &slots_[*at].next_in_bucket;
  *at = self.next_in_bucket;
  if (self.state == State::kReady) --num_ready_;
  self.state = State::kEmpty;
}

int32_t SwapIndex::claim(const BlockKey& key) {
  MOLE_CHECK_LT(find(key), 0);
  int32_t slot = slots_[empty_].next;
  if (slot == empty_) slot = slots_[given_up_].next;
  if (slot == given_up_) return -1;
  unlink(slot);
  if (ready(slot)) forget(slot);
  enter(slot, key);
  return slot;
}

void SwapIndex::restore(int32_t slot, const BlockKey& key) {
  MOLE_CHECK(slots_[slot].state == State::kEmpty);
  MOLE_CHECK_LT(find(key), 0);
  unlink(slot);
  enter(slot, key);
  finish(slot);
}

void SwapIndex::enter(int32_t slot, const BlockKey& key) {
  int32_t& first = buckets_[bucket_of(key)];
  Slot& self = slots_[slot];
  self.key = key;
  self.state = State::kWriting;
  self.next_in_bucket = first;
  first = slot;
}

void SwapIndex::finish(int32_t slot) {
  MOLE_CHECK(slots_[slot].state == State::kWriting);
  slots_[slot].state = State::kReady;
  ++num_ready_;
  append(slot, given_up_);
}

void SwapIndex::drop(int32_t slot) {
  const Slot& self = slots_[slot];
  MOLE_CHECK_EQ(self.readers, 0);
  MOLE_CHECK(self.state != State::kEmpty);
  if (self.state == State::kReady) unlink(slot);
  forget(slot);
  append(slot, empty_);
}

void SwapIndex::touch(int32_t slot) {
  MOLE_CHECK(ready(slot));
  if (slots_[slot].readers > 0) return;  // goes to the end when the last reader leaves
  unlink(slot);
  append(slot, given_up_);
}

void SwapIndex::pin(int32_t slot) {
  MOLE_CHECK(ready(slot));
  if (slots_[slot].readers++ == 0) unlink(slot);
}

void SwapIndex::unpin(int32_t slot) {
  MOLE_CHECK_GT(slots_[slot].readers, 0);
  if (--slots_[slot].readers == 0) append(slot, given_up_);
}

}  // namespace mole::runtime
