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
  /// Steps with a part of a wave.
  int64_t num_wave_steps() const { return num_wave_steps_; }
  int64_t num_drafted() const { return num_drafted_; }
  int64_t num_accepted() const { return num_accepted_; }
  int64_t num_hit_tokens() const {
    return hits_before_ + core_->scheduler().prefix_stats().hit_tokens;
  }
  /// Pages that came back from the swap file, and those that were refused.
  int64_t num_pages_loaded() const { return pages_loaded_; }
  int64_t num_pages_refused() const { return pages_refused_; }
  int64_t num_restarts() const { return restarts_; }
  /// A number that follows from every event of the history.
  uint64_t history() const { return history_; }

 private:
  void make_core();
  void restart();
  void add_swap_counts();
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
  runtime::EngineMetrics* metrics_;
  std::unique_ptr<FakeSwapStore> swap_store_;  // lives through restarts, as a file does
  FakeSwapDevice::Truth swap_truth_;
  FakeSwapDevice* swap_device_ = nullptr;  // the core's
  std::unique_ptr<runtime::EngineCore> core_;
  runtime::SchedulerOptions bounds_;
  FairnessChecker fairness_;
  std::vector<std::unique_ptr<SimClient>> clients_;
  int64_t step_ = 0;
  int64_t num_preempted_ = 0, num_wave_steps_ = 0;
  int64_t num_drafted_ = 0, num_accepted_ = 0;
  int64_t hits_before_ = 0;  // in engines before the restart
  int64_t pages_loaded_ = 0, pages_refused_ = 0, restarts_ = 0;
  uint64_t history_ = 0;
};

}  // namespace mole::sim
