// The plans of the last steps, for whoever wants to know afterwards what the engine was doing: on
// a failure, or when an operator asks. Without token values, like the plans themselves. Thread:
// record() the engine's, recent() any.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/clock.h"
#include "runtime/step_plan.h"

namespace mole::runtime {

class PlanRecorder {
 public:
  /// Keeps `plans_max` plans (0 = none), with memory for `chunks_max` chunks each from the start.
  PlanRecorder(int32_t plans_max, int32_t chunks_max);

  /// Keeps a copy of a plan that does anything, made at `now_us`. Never waits: while recent()
  /// reads, a plan is left out; its number is missing then.
  void record(const StepPlan& plan, TimeUs now_us);

  /// {"step":number,"us":time,"plan":{…}} of each, oldest first.
  std::vector<std::string> recent() const;

 private:
  struct Entry {
    int64_t step = 0;
    TimeUs began_us = 0;
    StepPlan plan;                    // its pointers are null
    std::vector<SequenceName> names;  // of each chunk
  };

  int64_t num_steps_ = 0;  // the engine's thread's
  mutable std::mutex mutex_;
  std::vector<Entry> ring_;  // guarded by mutex_
  size_t num_recorded_ = 0;  // guarded by mutex_
};

}  // namespace mole::runtime
