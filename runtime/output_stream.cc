#include "runtime/output_stream.h"

namespace mole::runtime {

std::optional<StreamEvent> OutputStream::try_pop() {
  std::lock_guard lock(mutex_);
  if (events_.empty()) return std::nullopt;
  std::optional<StreamEvent> event(std::move(events_.front()));
  events_.pop_front();
  return event;
}

void OutputStream::set_wake(std::function<void()> wake) {
  std::unique_lock lock(mutex_);
  wake_ = std::move(wake);
  if (events_.empty() || !wake_) return;
  const std::function<void()> call = wake_;
  lock.unlock();  // the reader may pop from inside
  call();
}

bool OutputStream::push(StreamEvent event) {
  std::unique_lock lock(mutex_);
  if (events_.size() >= capacity_) return false;
  push_locked_and_wake(std::move(event), std::move(lock));
  return true;
}

void OutputStream::push_last(StreamEvent event) {
  push_locked_and_wake(std::move(event), std::unique_lock(mutex_));
}

void OutputStream::push_locked_and_wake(StreamEvent event, std::unique_lock<std::mutex> lock) {
  const bool was_empty = events_.empty();
  events_.push_back(std::move(event));
  // wake_ is set once and before anything is read, so it may be called without the lock.
  const bool wake = was_empty && wake_ != nullptr;
  lock.unlock();
  if (wake) wake_();
}

}  // namespace mole::runtime
