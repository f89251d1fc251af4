// A swap device without a thread or a disk: pages lie in memory, time is the simulation's, and
// faults happen by the seed: a page takes long, a read or a write fails, a written page rots, is
// torn or lands in another slot. It remembers what every key's page must hold, and says so if a
// page comes back otherwise and was believed.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "runtime/swap_device.h"
#include "tests/sim/sim_random.h"

namespace mole::sim {

/// Each happens once in so many pages; 0 = never.
struct SwapFaults {
  int32_t slow = 0;         // takes a thousand times as long
  int32_t io_error = 0;     // of a read or a write
  int32_t rot = 0;          // one bit of the page or its header changes
  int32_t torn = 0;         // only a beginning of the payload was written
  int32_t misdirected = 0;  // written to another slot
};

/// Outlives the device, as a file outlives the process.
class FakeSwapStore final : public runtime::SwapStore {
 public:
  FakeSwapStore(uint64_t seed, uint64_t num_slots, const SwapFaults& faults)
      : random_(seed), faults_(faults), slots_(num_slots) {}

  uint64_t num_slots() const override { return slots_.size(); }

  Status read_headers(uint64_t first, std::span<runtime::SwapPageHeader> headers) override {
    for (size_t i = 0; i < headers.size(); ++i) headers[i] = slots_[first + i].header;
    return absl::OkStatus();
  }

  Status write_page(uint64_t slot, const runtime::SwapPageHeader& header,
                    runtime::PagePieces pieces) override {
    if (happens(faults_.misdirected)) slot = random_.bits() % slots_.size();
    Slot& to = slots_[slot];
    to.header = {};
    if (happens(faults_.io_error)) return absl::InternalError("injected: write");
    std::vector<std::byte> payload;
    for (const auto& piece : pieces) payload.insert(payload.end(), piece.begin(), piece.end());
    to.payload.resize(payload.size());
    const size_t most = happens(faults_.torn) ? random_.bits() % payload.size() : payload.size();
    std::copy_n(payload.begin(), most, to.payload.begin());
    to.header = header;
    if (happens(faults_.rot)) rot(&to);
    return absl::OkStatus();
  }

  Status read_page(uint64_t slot, runtime::SwapPageHeader* header,
                   runtime::PagePieces pieces) override {
    const Slot& from = slots_[slot];
    *header = from.header;
    const std::byte* at = from.payload.data();
    size_t left = from.payload.size();
    for (const auto& piece : pieces) {
      const size_t count = std::min(left, piece.size());
      std::copy_n(at, count, piece.begin());
      at += count;
      left -= count;
    }
    return happens(faults_.io_error) ? absl::InternalError("injected: read") : absl::OkStatus();
  }

 private:
  struct Slot {
    runtime::SwapPageHeader header;
    std::vector<std::byte> payload;
  };
  bool happens(int32_t odds) { return odds > 0 && random_.one_in(odds); }
  void rot(Slot* slot) {
    const bool in_header = random_.one_in(4);
    auto* bytes = in_header ? reinterpret_cast<std::byte*>(&slot->header) : slot->payload.data();
    const size_t size = in_header ? sizeof(slot->header) : slot->payload.size();
    bytes[random_.bits() % size] ^= std::byte{static_cast<uint8_t>(1u << random_.between(0, 7))};
  }

  SimRandom random_;
  const SwapFaults faults_;
  std::vector<Slot> slots_;
};

class FakeSwapDevice final : public runtime::SwapDevice {
 public:
  /// What each key's page holds; outlives the device, as the store does.
  using Truth = std::map<std::array<uint64_t, 4>, std::vector<std::byte>>;

  FakeSwapDevice(uint64_t seed, FakeSwapStore* store, Truth* truth, const Clock* clock,
                 TimeUs page_us, int32_t slow_odds, uint64_t page_bytes)
      : random_(seed),
        store_(store),
        truth_(truth),
        clock_(clock),
        page_us_(page_us),
        slow_odds_(slow_odds),
        page_bytes_(page_bytes) {}

  int32_t num_slots() const override { return static_cast<int32_t>(store_->num_slots()); }
  std::vector<runtime::RecoveredPage> recover(std::span<int64_t> refused) override {
    return runtime::recover_pages(*store_, page_bytes_, fingerprint_, refused);
  }
  void start(model::KvCache* cache, std::function<void()> /*wake*/) override {
    const auto layer_bytes = static_cast<uint64_t>(cache->shape().block_bytes());
    pages_ = std::make_unique<runtime::CachePages>(cache,
                                                   static_cast<int32_t>(page_bytes_ / layer_bytes));
    MOLE_CHECK_EQ(page_bytes_, pages_->page_bytes());
  }

  void submit(const runtime::SwapJob& job) override {
    advance();
    if (job.write) remember(job);
    auto& jobs = job.write ? writes_ : loads_;
    jobs.push_back(job);
    begin_next(clock_->now_us());
  }

  bool cancel(uint64_t id) override {
    advance();
    for (auto* jobs : {&loads_, &writes_}) {
      const auto at = std::find_if(jobs->begin(), jobs->end(),
                                   [id](const runtime::SwapJob& job) { return job.id == id; });
      if (at == jobs->end()) continue;
      jobs->erase(at);
      return true;
    }
    return false;
  }

  bool poll(runtime::SwapDone* done) override {
    advance();
    if (done_.empty()) return false;
    *done = done_.front();
    done_.pop_front();
    return true;
  }

  void wait(TimeUs /*most_us*/) override {}

  /// What went wrong, or "".
  const std::string& violation() const { return violation_; }

 private:
  void begin_next(TimeUs now_us) {
    auto& jobs = loads_.empty() ? writes_ : loads_;
    if (running_ || jobs.empty()) return;
    running_ = true;
    job_ = jobs.front();
    jobs.pop_front();
    const TimeUs long_us = page_us_ * random_.between(1, 4);
    took_us_ = slow_odds_ > 0 && random_.one_in(slow_odds_) ? 1000 * long_us : long_us;
    end_us_ = now_us + took_us_;
  }

  // The page is copied at the end of its time: whoever touches its block meanwhile is found out.
  void advance() {
    while (running_ && clock_->now_us() >= end_us_) {
      const auto outcome = runtime::run_swap_job(job_, fingerprint_, *store_, *pages_);
      if (!job_.write && outcome == runtime::SwapOutcome::kOk) compare(job_);
      done_.push_back({job_, outcome, took_us_});
      running_ = false;
      begin_next(end_us_);
    }
  }

  std::vector<std::byte> contents(int32_t block) {
    std::vector<std::byte> bytes;
    for (const auto& piece : pages_->pieces(block)) {
      bytes.insert(bytes.end(), piece.begin(), piece.end());
    }
    return bytes;
  }

  void remember(const runtime::SwapJob& job) {
    const auto [at, fresh] = truth_->try_emplace(job.key.words, contents(job.block));
    if (!fresh && at->second != contents(job.block)) complain("one key, two pages");
  }

  void compare(const runtime::SwapJob& job) {
    const auto at = truth_->find(job.key.words);
    if (at == truth_->end()) {
      complain("a page came back that was never written");
    } else if (at->second != contents(job.block)) {
      complain("a page came back as another");
    }
  }

  void complain(const std::string& what) {
    if (violation_.empty()) violation_ = "swap: " + what;
  }

  SimRandom random_;
  FakeSwapStore* store_;
  Truth* truth_;
  const Clock* clock_;
  const TimeUs page_us_;
  const int32_t slow_odds_;
  const uint64_t page_bytes_;
  const Sha256Digest fingerprint_{{1, 2, 3, 4}};
  std::unique_ptr<runtime::CachePages> pages_;
  std::deque<runtime::SwapJob> loads_, writes_;
  std::deque<runtime::SwapDone> done_;
  bool running_ = false;
  runtime::SwapJob job_;
  TimeUs end_us_ = 0, took_us_ = 0;
  std::string violation_;
};

}  // namespace mole::sim
