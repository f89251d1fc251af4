// Which page lies in which slot of the swap file, and which slot is given up next: the least
// recently used that nobody reads. All memory is taken at construction (about 80 bytes a slot);
// every call costs O(1). Thread: engine.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/block_key.h"

namespace mole::runtime {

class SwapIndex {
 public:
  explicit SwapIndex(int32_t num_slots);

  int32_t num_slots() const { return num_slots_; }
  int32_t num_ready() const { return num_ready_; }
  /// The slot that holds the key's page or is just getting it, or -1.
  int32_t find(const BlockKey& key) const;
  /// The page can be read.
  bool ready(int32_t slot) const { return slots_[slot].state == State::kReady; }

  /// A slot for a page that is not here: an empty one, else the least recently used. It is found
  /// from now on, and ready after finish(). -1 if all are being written or read.
  int32_t claim(const BlockKey& key);
  /// Says at the start that an empty slot holds the key's page; the oldest page first.
  void restore(int32_t slot, const BlockKey& key);
  void finish(int32_t slot);
  /// Empties a slot that is not pinned.
  void drop(int32_t slot);

  /// Used again: given up later.
  void touch(int32_t slot);
  /// A reader more or less; requires that the slot is ready. Pinned slots are not given up.
  void pin(int32_t slot);
  void unpin(int32_t slot);

 private:
  enum class State : uint8_t { kEmpty, kWriting, kReady };
  struct Slot {
    BlockKey key;
    int32_t prev = 0, next = 0;  // in the list of empty slots or of those that can be given up
    int32_t next_in_bucket = -1;
    int32_t readers = 0;
    State state = State::kEmpty;
  };
  size_t bucket_of(const BlockKey& key) const;
  void unlink(int32_t slot);
  void append(int32_t slot, int32_t list);
  void enter(int32_t slot, const BlockKey& key);
  void forget(int32_t slot);

  const int32_t num_slots_;
  const int32_t empty_, given_up_;  // the lists' ends, behind the slots
  const uint64_t bucket_secret_;
  std::vector<Slot> slots_;
  std::vector<int32_t> buckets_;
  int32_t num_ready_ = 0;
};

}  // namespace mole::runtime
