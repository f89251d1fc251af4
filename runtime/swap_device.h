// Who carries pages between the KV cache and a SwapStore, beside the engine's thread: jobs go in,
// what became of them comes out, and nobody waits. One job runs at a time; the others can be taken
// back. Thread: the engine's.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "model/kv_cache.h"
#include "runtime/swap_store.h"

namespace mole::runtime {

/// One page one way. While the device has it, nobody else writes the block, and reads it only if
/// the job is a write.
struct SwapJob {
  uint64_t id = 0;  // never used again
  bool write = false;
  int32_t slot = 0;
  int32_t block = 0;
  int32_t priority = 0;  // of the request that wants the page; not the device's business
  uint64_t written = 0;  // for a write: SwapPageHeader::written
  BlockKey key;
};

struct SwapDone {
  SwapJob job;
  SwapOutcome outcome = SwapOutcome::kOk;
  TimeUs took_us = 0;
};

/// A page of ours that lay in the store when it was opened.
struct RecoveredPage {
  int32_t slot = 0;
  uint64_t written = 0;
  BlockKey key;
};

/// The blocks of a cache as pages: the layers of the model proper. Layers behind them (drafts') are
/// not swapped: their entries may change after a block is full, and are worth only better guesses.
class CachePages {
 public:
  CachePages(model::KvCache* cache, int32_t num_layers);
  uint64_t page_bytes() const;
  /// Valid until the next call.
  PagePieces pieces(int32_t block);
  /// Zeroes the layers that are not swapped.
  void clear_rest(int32_t block);

 private:
  model::KvCache* cache_;
  std::vector<std::span<std::byte>> pieces_;
};

/// Does one job, and checks what it read. Thread: the device's.
SwapOutcome run_swap_job(const SwapJob& job, const Sha256Digest& fingerprint, SwapStore& store,
                         CachePages& pages);

/// The pages of a store whose headers are sound and of this origin, the newest of each key, oldest
/// first. `refused` [kSwapOutcomes] counts the others, without empty slots.
std::vector<RecoveredPage> recover_pages(SwapStore& store, uint64_t page_bytes,
                                         const Sha256Digest& fingerprint,
                                         std::span<int64_t> refused);

class SwapDevice {
 public:
  virtual ~SwapDevice() = default;
  virtual int32_t num_slots() const = 0;
  /// What lies in the store, before start(); see recover_pages().
  virtual std::vector<RecoveredPage> recover(std::span<int64_t> refused) = 0;
  /// From now on jobs may come. `cache` must outlive the device; `wake` is called from another
  /// thread whenever a job is done, and may be null.
  virtual void start(model::KvCache* cache, std::function<void()> wake) = 0;
  /// Loads go before writes. At most kSwapJobsMax jobs may be unfinished.
  virtual void submit(const SwapJob& job) = 0;
  /// Takes back a job that has not begun: true, and poll() will not tell of it.
  virtual bool cancel(uint64_t id) = 0;
  /// The next finished job. False if there is none.
  virtual bool poll(SwapDone* done) = 0;
  /// Waits until poll() may have something, at most so long. For the end of the engine only.
  virtual void wait(TimeUs most_us) = 0;
};

}  // namespace mole::runtime
