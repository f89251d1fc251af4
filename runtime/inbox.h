// The engine's letter box: what other threads want of it. Bounded by construction: a submission has
// been counted against the queue's limits before it is put here, and all cancellations of one
// request share one entry, which exists as long as the request lives. So nothing is ever dropped.
// Thread: `take` and `forget` the engine's, the rest any.
#pragma once

#include <atomic>
#include <bitset>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "runtime/limits.h"
#include "runtime/sequence.h"

namespace mole::runtime {

class Inbox {
 public:
  struct Cancel {
    RequestId id;
    bool all = false;
    std::bitset<kSequencesPerRequestMax> indices;  // if not all
  };
  struct Letters {
    std::vector<std::unique_ptr<RequestState>> submitted;
    std::vector<Cancel> cancelled;
    std::optional<Status> abort;
    bool stop = false;
    void clear();
  };

  /// False, and `request` untouched, if the box is closed or a request of that id lives already.
  bool submit(std::unique_ptr<RequestState>& request);
  void cancel(RequestId id, std::optional<int32_t> index);
  void abort_all(const Status& status);
  /// The engine shall end. Nothing can be submitted any more.
  void stop();

  /// Ends a wait in take(), with nothing to take.
  void wake();

  /// Moves what has come into `letters` (which is cleared first). Waits up to `wait` for something;
  /// with 0 it takes no lock when nothing is there.
  void take(Letters* letters, std::chrono::microseconds wait);
  /// A request ended: cancellations of it mean nothing from now on.
  void forget(RequestId id);

 private:
  struct Live {
    bool cancel_pending = false;
    Cancel cancel;
  };
  void wake_locked();

  std::atomic<bool> something_{false};  // set under mutex_; read without as a hint
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::unordered_map<RequestId, Live> live_;              // guarded by mutex_
  std::vector<std::unique_ptr<RequestState>> submitted_;  // guarded by mutex_
  std::vector<RequestId> cancelled_;                      // guarded by mutex_
  std::optional<Status> abort_;                           // guarded by mutex_
  bool stop_ = false;                                     // guarded by mutex_
};

}  // namespace mole::runtime
