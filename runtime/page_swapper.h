// Which pages go to the swap file, which come back, and who waits for them. The prefix cache gains
// a second, larger level: full blocks that nobody uses are written in the background, longest
// unused first, and a waiting sequence whose next blocks lie in the file has them brought back
// before it starts, if that is expected to be faster than computing them (the same choice for a
// prompt and for a sequence that was pre-empted: its blocks are such blocks).
//
// - A block that is being written keeps its contents until that is done (BlockPool::hold); one that
//   is being loaded belongs to the loader alone. Either can be taken back when blocks are short,
//   but for the one page that the device is at.
// - What comes back is checked by the device (swap_format.h). A page that fails the check is a
// miss.
// - A sequence waits at most as long as computing the pages would take, so a slow disk costs at
//   most twice; and never longer than kPassOversMax others may pass it. Then it starts without.
// - Each wait gets the sequence further or is its last, so a full cache can't keep it waiting.
//
// Pure: no clock, no I/O of its own; after construction no allocation. O(1) a page. Thread: engine.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/clock.h"
#include "runtime/prefix_cache.h"
#include "runtime/step_cost.h"
#include "runtime/swap_device.h"
#include "runtime/swap_index.h"
#include "runtime/swap_limits.h"
#include "runtime/swap_wait.h"

namespace mole::runtime {

class PageSwapper {
 public:
  /// All must outlive the swapper; `device` is used by nobody else, and not yet started: its pages
  /// are taken in here.
  PageSwapper(SwapDevice* device, BlockPool* pool, PrefixCache* cache, uint64_t page_bytes);

  struct Stats {
    int64_t pages_written = 0;
    int64_t pages_loaded = 0;
    std::array<int64_t, kSwapOutcomes> refused{};  // pages, by why; [kOk] unused
    int64_t writes_failed = 0;
    int64_t taken_back = 0;        // jobs that gave way to somebody who needed the block
    int64_t waits = 0;             // sequences that waited for pages
    int64_t gave_up = 0;           // of these, whose pages did not come in time
    int64_t recomputed = 0;        // sequences for which computing was expected to be faster
    double load_bytes_per_us = 0;  // measured; 0 = not yet
  };
  const Stats& stats() const { return stats_; }

  /// Takes in what the device has finished.
  void poll();
  /// Hands released blocks to the device.
  void write_back();

  /// A waiting sequence that could start: the first `found` of its blocks are in the cache, `keys`
  /// are those of all the blocks it could reuse.
  struct Ask {
    std::span<const BlockKey> keys;
    int32_t found = 0;
    int32_t priority = 0;
    int32_t spare_blocks = 0;  // free blocks that must stay free
    int32_t num_prompt = 0;    // its prompt tokens: which form its tokens have
    bool may_wait = true;      // else it starts now
    TimeUs now_us = 0;
  };
  /// Whether it should wait for pages instead of starting now; asks for them.
  bool wait_for_pages(const Ask& ask, const StepCost& cost, SwapWait* wait);

  /// Takes back a page that is not being carried yet, and its block is free. False if there is
  /// none.
  bool take_back_write() { return take_back(true); }
  bool take_back_load() { return take_back(false); }

  int32_t num_writing() const { return num_writing_; }
  int32_t num_loading() const { return num_loading_; }
  bool busy() const { return num_writing_ + num_loading_ > 0; }
  const SwapIndex& index() const { return index_; }
  /// The block that a load fills, for each load. For checkers.
  std::vector<BlockId> loading_blocks() const;

 private:
  struct Slot {
    SwapJob job;
    bool active = false;
  };
  void finish(const SwapDone& done);
  void finish_load(const SwapJob& job, SwapOutcome outcome);
  bool loading(const BlockKey& key) const;
  bool choose(const Ask& ask, const StepCost& cost, int32_t run, SwapWait* wait);
  int32_t load(const Ask& ask, int32_t run);
  bool still_waiting(const Ask& ask, SwapWait* wait);
  bool give_up(SwapWait* wait);
  bool take_back(bool write);
  void submit(SwapJob job);

  SwapDevice* device_;
  BlockPool* pool_;
  PrefixCache* cache_;
  const uint64_t page_bytes_;
  SwapIndex index_;
  std::array<Slot, kSwapJobsMax> jobs_;  // unfinished ones, in no order
  int32_t num_writing_ = 0, num_loading_ = 0;
  uint64_t next_job_ = 1, next_written_ = 1;
  Stats stats_;
};

}  // namespace mole::runtime
