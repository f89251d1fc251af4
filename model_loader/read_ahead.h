// Brings a checkpoint's pages into memory ahead of whoever reads them, in the order in which models
// ask for them, and lets go of those that were read: loading then takes as long as the disk needs,
// and next to no memory besides what is made of the weights.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "model_loader/checkpoint.h"

namespace mole::loader {

/// "layers.2" before "layers.10": runs of digits compare as numbers.
bool natural_less(std::string_view a, std::string_view b);

class ReadAhead {
 public:
  /// Starts a thread that reads at most `window_bytes`, and one tensor, beyond what was let go.
  ReadAhead(std::shared_ptr<const Checkpoint> checkpoint, int64_t window_bytes);
  ~ReadAhead();
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;

  /// A tensor's bytes that won't be read again; reading them still gives the same. Any thread.
  void let_go(std::span<const std::byte> bytes);

 private:
  void run();
  // Waits for room in the window. False if `tensor` was let go already, or all is over.
  bool wanted(const std::byte* tensor, int64_t asked);

  std::shared_ptr<const Checkpoint> checkpoint_;
  int64_t window_bytes_;
  std::vector<std::span<const std::byte>> order_;
  std::mutex mutex_;
  std::condition_variable moved_;
  int64_t done_bytes_ = 0;           // let go; guarded by mutex_, as done_ and stop_ are
  std::set<const std::byte*> done_;  // where tensors that were let go begin
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace mole::loader
