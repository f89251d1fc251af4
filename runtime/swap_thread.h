// The SwapDevice of a server: one thread that does the jobs in order, loads first. Its lock is held
// for the queue only, never while a page is copied, so the engine's thread never waits for a disk.
// Ends after the job that runs; what is queued then is dropped.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "runtime/swap_device.h"

namespace mole::runtime {

class SwapThread final : public SwapDevice {
 public:
  /// `num_layers` as CachePages takes it; `page_bytes` what such a page has.
  SwapThread(std::unique_ptr<SwapStore> store, const Sha256Digest& fingerprint, int32_t num_layers,
             uint64_t page_bytes);
  ~SwapThread() override;

  int32_t num_slots() const override { return static_cast<int32_t>(store_->num_slots()); }
  std::vector<RecoveredPage> recover(std::span<int64_t> refused) override;
  void start(model::KvCache* cache, std::function<void()> wake) override;
  void submit(const SwapJob& job) override;
  bool cancel(uint64_t id) override;
  bool poll(SwapDone* done) override;
  void wait(TimeUs most_us) override;

 private:
  void run();
  bool next_job(SwapJob* job);

  const std::unique_ptr<SwapStore> store_;  // the thread's, once it runs
  const Sha256Digest fingerprint_;
  const int32_t num_layers_;
  const uint64_t page_bytes_;
  std::unique_ptr<CachePages> pages_;  // the thread's
  std::function<void()> wake_;

  std::mutex mutex_;
  std::condition_variable work_, finished_;
  std::vector<SwapJob> loads_, writes_;  // guarded by mutex_; room is reserved
  std::vector<SwapDone> done_;           // guarded by mutex_
  bool stop_ = false;                    // guarded by mutex_
  std::thread thread_;
};

}  // namespace mole::runtime
