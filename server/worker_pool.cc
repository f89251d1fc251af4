#include "server/worker_pool.h"

#include <chrono>

namespace mole::server {

WorkerPool::WorkerPool(int threads, size_t queue_max) : queue_(queue_max) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::stop() {
  queue_.close();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void WorkerPool::work() {
  // close() wakes every waiter, so the time-out only bounds how long one wait lasts.
  constexpr std::chrono::seconds kWait(60);
  while (true) {
    auto task = queue_.pop_for(kWait);
    if (task.has_value()) {
      (*task)();
    } else if (queue_.closed()) {
      return;
    }
  }
}

}  // namespace mole::server
