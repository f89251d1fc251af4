// A few threads for work that must not hold up the sockets: reading JSON, chat templates,
// tokenizing. The queue is bounded; a full one is the caller's refusal. Thread: any.
#pragma once

#include <functional>
#include <thread>
#include <vector>

#include "base/bounded_queue.h"

namespace mole::server {

class WorkerPool {
 public:
  WorkerPool(int threads, size_t queue_max);
  /// Finishes what is queued, then joins.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// False when the queue is full or the pool is stopping. `task` must not throw.
  bool try_run(std::function<void()> task) { return queue_.try_push(std::move(task)); }
  size_t queued() const { return queue_.size(); }
  /// Finishes what is queued, then joins; later tasks are refused.
  void stop();

 private:
  void work();

  BoundedQueue<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
};

}  // namespace mole::server
