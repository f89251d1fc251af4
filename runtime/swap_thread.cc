#include "runtime/swap_thread.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "base/check.h"
#include "runtime/swap_limits.h"

namespace mole::runtime {
namespace {

bool take_out(std::vector<SwapJob>* jobs, uint64_t id) {
  const auto at =
      std::find_if(jobs->begin(), jobs->end(), [id](const SwapJob& job) { return job.id == id; });
  if (at == jobs->end()) return false;
  jobs->erase(at);
  return true;
}

}  // namespace

SwapThread::SwapThread(std::unique_ptr<SwapStore> store, const Sha256Digest& fingerprint,
                       int32_t num_layers, uint64_t page_bytes)
    : store_(std::move(store)),
      fingerprint_(fingerprint),
      num_layers_(num_layers),
      page_bytes_(page_bytes) {
  loads_.reserve(kSwapLoadsMax);
  writes_.reserve(kSwapWritesMax);
  done_.reserve(kSwapJobsMax);
}

SwapThread::~SwapThread() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  work_.notify_one();
  if (thread_.joinable()) thread_.join();
}

std::vector<RecoveredPage> SwapThread::recover(std::span<int64_t> refused) {
  MOLE_CHECK(!thread_.joinable());
  return recover_pages(*store_, page_bytes_, fingerprint_, refused);
}

void SwapThread::start(model::KvCache* cache, std::function<void()> wake) {
  pages_ = std::make_unique<CachePages>(cache, num_layers_);
  MOLE_CHECK_EQ(pages_->page_bytes(), page_bytes_);
  wake_ = std::move(wake);
  thread_ = std::thread([this] { run(); });
}

void SwapThread::submit(const SwapJob& job) {
  {
    std::lock_guard lock(mutex_);
    MOLE_CHECK_LT(loads_.size() + writes_.size() + done_.size(), size_t{kSwapJobsMax});
    (job.write ? writes_ : loads_).push_back(job);
  }
  work_.notify_one();
}

bool SwapThread::cancel(uint64_t id) {
  std::lock_guard lock(mutex_);
  return take_out(&loads_, id) || take_out(&writes_, id);
}

bool SwapThread::poll(SwapDone* done) {
  std::lock_guard lock(mutex_);
  if (done_.empty()) return false;
  *done = done_.front();
  done_.erase(done_.begin());
  return true;
}

void SwapThread::wait(TimeUs most_us) {
  std::unique_lock lock(mutex_);
  finished_.wait_for(lock, std::chrono::microseconds(most_us), [this] { return !done_.empty(); });
}

bool SwapThread::next_job(SwapJob* job) {
  std::unique_lock lock(mutex_);
  work_.wait(lock, [this] { return stop_ || !loads_.empty() || !writes_.empty(); });
  if (stop_) return false;
  std::vector<SwapJob>& jobs = loads_.empty() ? writes_ : loads_;
  *job = jobs.front();
  jobs.erase(jobs.begin());
  return true;
}

void SwapThread::run() {
  const SteadyClock clock;
  SwapDone done;
  while (next_job(&done.job)) {
    const TimeUs began_us = clock.now_us();
    done.outcome = run_swap_job(done.job, fingerprint_, *store_, *pages_);
    done.took_us = clock.now_us() - began_us;
    {
      std::lock_guard lock(mutex_);
      done_.push_back(done);
    }
    finished_.notify_one();
    if (wake_) wake_();
  }
}

}  // namespace mole::runtime
