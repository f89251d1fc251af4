#include "runtime/inbox.h"

#include <utility>

namespace mole::runtime {

void Inbox::Letters::clear() {
  submitted.clear();
  cancelled.clear();
  abort.reset();
  stop = false;
}

void Inbox::wake_locked() {
  something_.store(true, std::memory_order_release);
  arrived_.notify_one();
}

bool Inbox::submit(std::unique_ptr<RequestState>& request) {
  std::lock_guard lock(mutex_);
  const RequestId id = request->request.id;
  if (stop_ || !live_.try_emplace(id).second) return false;
  submitted_.push_back(std::move(request));
  wake_locked();
  return true;
}

void Inbox::cancel(RequestId id, std::optional<int32_t> index) {
  if (index && (*index < 0 || *index >= kSequencesPerRequestMax)) return;
  std::lock_guard lock(mutex_);
  const auto at = live_.find(id);
  if (at == live_.end()) return;
  Live& live = at->second;
  if (!live.cancel_pending) {
    live.cancel_pending = true;
    live.cancel = {.id = id, .all = false, .indices = {}};
    cancelled_.push_back(id);
  }
  if (index) {
    live.cancel.indices.set(static_cast<size_t>(*index));
  } else {
    live.cancel.all = true;
  }
  wake_locked();
}

void Inbox::abort_all(const Status& status) {
  std::lock_guard lock(mutex_);
  abort_ = Status(status.code(), status.message());  // shares nothing with the caller's
  wake_locked();
}

void Inbox::stop() {
  std::lock_guard lock(mutex_);
  stop_ = true;
  wake_locked();
}

void Inbox::wake() {
  std::lock_guard lock(mutex_);
  wake_locked();
}

void Inbox::take(Letters* letters, std::chrono::microseconds wait) {
  letters->clear();
  if (wait.count() == 0 && !something_.load(std::memory_order_acquire)) return;
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, wait, [this] { return something_.load(std::memory_order_relaxed); });
  letters->submitted.swap(submitted_);
  for (const RequestId id : cancelled_) {
    const auto at = live_.find(id);
    if (at == live_.end()) continue;
    letters->cancelled.push_back(at->second.cancel);
    at->second.cancel_pending = false;
  }
  cancelled_.clear();
  letters->abort.swap(abort_);
  letters->stop = stop_;
  something_.store(false, std::memory_order_relaxed);
}

void Inbox::forget(RequestId id) {
  std::lock_guard lock(mutex_);
  live_.erase(id);
}

}  // namespace mole::runtime
