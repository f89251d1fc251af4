// One simulated history: the engine core on the fake model, a clock turned by hand, clients and
// their faults. The same seed gives the same history.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "runtime/engine_core.h"
#include "tests/sim/sim_checkers.h"
#include "tests/sim/sim_client.h"
#include "tests/sim/sim_config.h"

namespace mole::sim {

class Simulation {
 public:
  Simulation(uint64_t seed, runtime::EngineMetrics* metrics);

  /// Runs to the end of all requests. Returns what is wrong (with the step), or "".
  std::string run();

  int64_t num_steps() const { return step_; }
  int64_t num_preempted() const { return num_preempted_; }
  int64_t num_hit_tokens() const { return core_->scheduler().prefix_stats().hit_tokens; }
  /// A number that follows from every event of the history.
  uint64_t history() const { return history_; }

 private:
  std::string one_step();
  void let_requests_come();
  void submit();
  runtime::GenerateRequest draw_request();
  std::vector<TokenId> draw_prompt();
  void draw_sampling(runtime::SamplingParams* sampling, int32_t room);
  void draw_faults(SimClient* client);
  void let_clients_act();
  std::string check_end();

  const SimConfig config_;
  SimRandom random_;
  ManualClock clock_;
  std::unique_ptr<runtime::EngineCore> core_;
  runtime::SchedulerOptions bounds_;
  FairnessChecker fairness_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  int64_t step_ = 0;
  int64_t num_preempted_ = 0;
  uint64_t history_ = 0;
};

}  // namespace mole::sim
