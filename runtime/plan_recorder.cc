#include "runtime/plan_recorder.h"

#include <algorithm>

namespace mole::runtime {

PlanRecorder::PlanRecorder(int32_t plans_max, int32_t chunks_max)
    : ring_(static_cast<size_t>(plans_max)) {
  for (Entry& entry : ring_) {
    entry.plan.chunks.reserve(static_cast<size_t>(chunks_max));
    entry.plan.wave.places.reserve(static_cast<size_t>(chunks_max));
    entry.names.reserve(static_cast<size_t>(chunks_max));
  }
}

void PlanRecorder::record(const StepPlan& plan, TimeUs now_us) {
  if (plan.chunks.empty() && plan.expired.empty() && plan.num_preempted == 0) return;
  const int64_t step = num_steps_++;
  const std::unique_lock lock(mutex_, std::try_to_lock);  // the step path waits for nobody
  if (!lock.owns_lock() || ring_.empty()) return;
  Entry& entry = ring_[num_recorded_++ % ring_.size()];
  entry.step = step;
  entry.began_us = now_us;
  entry.plan = plan;
  entry.names.clear();
  for (PlannedChunk& chunk : entry.plan.chunks) {
    entry.names.push_back(name_of(chunk));
    chunk.sequence = nullptr;  // it will be gone
  }
  for (ExpiredRequest& expired : entry.plan.expired) expired.request = nullptr;
}

std::vector<std::string> PlanRecorder::recent() const {
  std::vector<std::string> lines;
  const std::lock_guard lock(mutex_);
  const size_t kept = std::min(num_recorded_, ring_.size());
  for (size_t i = num_recorded_ - kept; i < num_recorded_; ++i) {
    const Entry& entry = ring_[i % ring_.size()];
    lines.push_back("{\"step\":" + std::to_string(entry.step) +
                    ",\"us\":" + std::to_string(entry.began_us) +
                    ",\"plan\":" + entry.plan.to_json(entry.names) + "}");
  }
  return lines;
}

}  // namespace mole::runtime
