// What must hold after every step of a simulation, checked against the scheduler's own state.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "runtime/scheduler.h"

namespace mole::sim {

/// Blocks: the counts are what the sequences hold, nothing is held by a sequence that doesn't run,
/// and a block with two users is full and means the same to both. Returns what is wrong, or "".
std::string check_blocks(const runtime::Scheduler& scheduler);

/// Pages on their way: each load fills a block of its own that nobody finds, what is written can't
/// be taken, and no more is on its way than the bounds say. Returns what is wrong, or "".
std::string check_swap(const runtime::Scheduler& scheduler);

/// Sequences, tokens and order of the step within the bounds.
std::string check_bounds(const runtime::Scheduler& scheduler, const runtime::StepPlan& plan,
                         const runtime::SchedulerOptions& options);

/// A wave: its members run, each is in it once and still where it joined, and it stays within its
/// bound; what the plan says of it is its last chunks. Returns what is wrong, or "".
std::string check_wave(const runtime::Scheduler& scheduler, const runtime::StepPlan& plan,
                       const runtime::SchedulerOptions& options);

/// Nobody starves: the first of those that run makes progress in every step and never loses its
/// blocks, and nobody is passed over too often. It may wait for a wave that began before it could
/// join, but not for another. Keeps its own book of who came when.
class FairnessChecker {
 public:
  explicit FairnessChecker(int32_t max_num_seqs) : max_num_seqs_(max_num_seqs) {}
  void note_arrival(const runtime::RequestState& request);
  void before_step(const runtime::Scheduler& scheduler);
  std::string after_step(const runtime::Scheduler& scheduler);

 private:
  using Key = std::pair<uint64_t, int32_t>;  // request id, index
  struct Rank {
    int32_t priority = 0;
    uint64_t arrival = 0;
    int32_t index = 0;
    auto operator<=>(const Rank&) const = default;
  };
  static Key key_of(const runtime::Sequence& sequence);
  Rank rank_of(const Key& key) const;

  const int32_t max_num_seqs_;
  uint64_t arrivals_ = 0;
  std::map<uint64_t, Rank> ranks_;  // by request id
  std::map<Key, int32_t> passes_;   // of those that wait
  std::vector<Key> ran_before_;
  std::vector<Key> waited_before_;
  std::pair<int32_t, int32_t> first_progress_;  // computed, generated of the first that ran
  int64_t waves_begun_ = 0, layers_passed_ = 0;
};

}  // namespace mole::sim
