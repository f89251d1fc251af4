// The tokens of one step, chosen by all threads: rows don't depend on each other, so it doesn't
// matter who takes which. What is chosen is what Sampler and LogprobScorer say of the row alone.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "kernels/cpu/thread_team.h"
#include "runtime/logprobs.h"
#include "runtime/sampler.h"

namespace mole::runtime {

/// A row's token, and the log-probabilities if they were asked for.
struct Choice {
  StatusOr<TokenId> token = absl::InternalError("not chosen");
  StatusOr<TokenLogprobs> logprobs = TokenLogprobs{};
};

/// Thread: one at a time, and not while the team is at work for another.
class StepSampler {
 public:
  /// `rows_max`: rows of logits in a step. `team` may be null (then nobody helps), else it must
  /// outlive the sampler.
  StepSampler(int32_t vocab_size, int32_t rows_max, kernels::ThreadTeam* team);
  ~StepSampler();

  /// One row to choose from: what Sampler::sample() takes, and how many log-probabilities are
  /// wanted beside the token's own, -1 = none. Or a row whose token is known, to be scored only.
  struct Row {
    std::span<const float> logits;
    SampleContext context = {};
    int32_t logprobs = -1;
    TokenId known = -1;  // -1 = to be chosen, by `context`
  };

  /// A new step: forgets the last one's rows and choices.
  void begin();
  /// Row `number` of the step, in [0, rows_max), each once; its spans must live until run().
  void add(int32_t number, const Row& row);
  /// Chooses for all that were added.
  void run();
  /// What run() chose for the row; null if it was not added.
  Choice* find(int32_t number);
  /// Chooses now, in the calling thread.
  Choice choose(const Row& row);

 private:
  struct Worker;
  void run_rows(int64_t begin, int64_t end);
  std::unique_ptr<Worker> take_worker();
  void put_back(std::unique_ptr<Worker> worker);

  struct Slot {
    bool added = false;
    Row row;
    Choice choice;
  };
  kernels::ThreadTeam* team_;
  std::vector<Slot> slots_;       // [rows_max]
  std::vector<int32_t> numbers_;  // of what was added
  std::mutex mutex_;
  std::vector<std::unique_ptr<Worker>> idle_;  // guarded by mutex_; one for each thread
};

}  // namespace mole::runtime
