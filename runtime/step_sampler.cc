#include "runtime/step_sampler.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace mole::runtime {

// What one thread needs to choose.
struct StepSampler::Worker {
  explicit Worker(int32_t vocab_size) : sampler(vocab_size) {}

  void choose(const Row& row, Choice* choice) {
    choice->token = row.known >= 0 ? row.known : sampler.sample(row.logits, row.context);
    if (row.logprobs < 0 || !choice->token.ok()) return;
    choice->logprobs = scorer.score(row.logits, *choice->token, row.logprobs);
  }

  Sampler sampler;
  LogprobScorer scorer;
};

StepSampler::StepSampler(int32_t vocab_size, int32_t rows_max, kernels::ThreadTeam* team)
    : team_(team), slots_(static_cast<size_t>(rows_max)) {
  numbers_.reserve(slots_.size());
  const int32_t threads = team == nullptr ? 1 : std::min(team->num_threads(), rows_max);
  for (int32_t i = 0; i < std::max(threads, 1); ++i) {
    idle_.push_back(std::make_unique<Worker>(vocab_size));
  }
}

StepSampler::~StepSampler() = default;

void StepSampler::begin() {
  for (const int32_t number : numbers_) slots_[static_cast<size_t>(number)].added = false;
  numbers_.clear();
}

void StepSampler::add(int32_t number, const Row& row) {
  Slot& slot = slots_.at(static_cast<size_t>(number));
  MOLE_CHECK(!slot.added);
  slot.added = true;
  slot.row = row;
  numbers_.push_back(number);
}

void StepSampler::run() {
  const auto count = static_cast<int64_t>(numbers_.size());
  if (team_ == nullptr || count < 2) return run_rows(0, count);
  auto part = [this](int64_t begin, int64_t end) { run_rows(begin, end); };
  team_->parallel_for(count, 1, part);
}

void StepSampler::run_rows(int64_t begin, int64_t end) {
  if (begin == end) return;
  std::unique_ptr<Worker> worker = take_worker();
  for (int64_t i = begin; i < end; ++i) {
    Slot& slot = slots_[static_cast<size_t>(numbers_[static_cast<size_t>(i)])];
    worker->choose(slot.row, &slot.choice);
  }
  put_back(std::move(worker));
}

Choice* StepSampler::find(int32_t number) {
  Slot& slot = slots_.at(static_cast<size_t>(number));
  return slot.added ? &slot.choice : nullptr;
}

Choice StepSampler::choose(const Row& row) {
  std::unique_ptr<Worker> worker = take_worker();
  Choice choice;
  worker->choose(row, &choice);
  put_back(std::move(worker));
  return choice;
}

// There are as many as threads, so one is always idle.
std::unique_ptr<StepSampler::Worker> StepSampler::take_worker() {
  const std::lock_guard lock(mutex_);
  MOLE_CHECK(!idle_.empty());
  std::unique_ptr<Worker> worker = std::move(idle_.back());
  idle_.pop_back();
  return worker;
}

void StepSampler::put_back(std::unique_ptr<Worker> worker) {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(worker));
}

}  // namespace mole::runtime
