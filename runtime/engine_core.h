// The engine without its thread: one step after the other, deterministic, with time as a value from
// outside. The engine's thread turns it; the simulation turns it by hand. Thread: one at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "model/model.h"
#include "runtime/batch_builder.h"
#include "runtime/engine.h"
#include "runtime/engine_metrics.h"
#include "runtime/mtp_drafter.h"
#include "runtime/plan_recorder.h"
#include "runtime/scheduler.h"
#include "runtime/step_sampler.h"
#include "runtime/step_time_model.h"

namespace mole::runtime {

class EngineCore {
 public:
  /// `options` as resolve_options() gave them; `clock` and `metrics` must outlive the core.
  EngineCore(std::unique_ptr<model::Model> model, const EngineOptions& options, const Clock* clock,
             EngineMetrics* metrics);
  ~EngineCore();

  /// Takes a validated request. It ends with kFinished for each sequence, or with one kError.
  void add(std::unique_ptr<RequestState> request);
  /// Ends a request, or one sequence of it, with kCancelled. Unknown ids are ignored.
  void cancel(RequestId id, std::optional<int32_t> index);
  /// Ends every request with kError `status`.
  void abort_all(const Status& status);

  /// Plans, computes and publishes one step. Errors: the model's; the caller then ends all requests
  /// with abort_all, and the core takes no more steps.
  Status step();

  bool idle() const { return requests_.empty(); }

  /// Gives the prefix cache a swap file behind it. Before the first request. `wake` is called from
  /// another thread whenever a page has come or gone; may be null.
  void use_swap(std::unique_ptr<SwapDevice> device, std::function<void()> wake);
  /// The last step had nothing to compute, as all that could run waits for pages.
  bool waits_for_pages() const;
  /// Moves pages while there is no step to take.
  void tend_swap();
  /// Writes what can be written, at most kSwapFlushMaxUs long: for the end of the engine.
  void flush_swap();

  /// What happened to requests since the caller last cleared it.
  struct Notices {
    struct LeftQueue {
      int64_t prompt_tokens = 0;
    };
    std::vector<LeftQueue> left_queue;  // started, or ended without having started
    std::vector<RequestId> ended;
  };
  Notices& notices() { return notices_; }

  const model::ModelInfo& model_info() const { return model_->info(); }
  const Scheduler& scheduler() const { return scheduler_; }
  const StepPlan* last_plan() const { return plan_; }
  const PlanRecorder& plans() const { return plans_; }
  const StepTimeModel& step_times() const { return step_times_; }

 private:
  void note_started(const StepPlan& plan);
  void end_expired(const StepPlan& plan);
  void choose_tokens(const StepPlan& plan, const model::StepOutput& output);
  void add_rows(const PlannedChunk& chunk, const model::StepOutput& output, int32_t row);
  std::span<const float> logits_row(const model::StepOutput& output, int32_t row) const;
  StepSampler::Row sampled_row(const Sequence& sequence, std::span<const float> logits,
                               int32_t ahead) const;
  void publish(const StepPlan& plan, const model::StepOutput& output);
  void publish_chunk(const PlannedChunk& chunk, const model::StepOutput& output, int32_t row);
  Status publish_scored(const PlannedChunk& chunk, int32_t row);
  Status publish_run(const PlannedChunk& chunk, const model::StepOutput& output, int32_t row);
  Status publish_sampled(Sequence* sequence, const model::StepOutput& output, int32_t row);
  Status propose_drafts(const StepPlan& plan);
  bool send(Sequence* sequence, StreamEvent event);
  void note_token_time(Sequence* sequence);
  void end_sequence(Sequence* sequence, FinishReason reason, TokenId stop_token = -1);
  void send_finished(const Sequence& sequence, FinishReason reason, TokenId stop_token);
  void fail_request(RequestState* request, const Status& status);
  void note_left_queue(RequestState* request);
  void remove_ended();
  void note_step(const StepPlan& plan, TimeUs began_us);
  void note_step_time(const StepPlan& plan, double seconds);
  void refresh_gauges();
  void note_experts();

  std::unique_ptr<model::Model> model_;
  const EngineOptions options_;
  const Clock* clock_;
  EngineMetrics* metrics_;
  model::KvCache cache_;
  std::unique_ptr<SwapDevice> swap_;  // after the cache, whose memory its thread uses
  Scheduler scheduler_;
  StepTimeModel step_times_;
  BatchBuilder builder_;
  StepSampler sampler_;
  std::unique_ptr<MtpDrafter> mtp_drafter_;  // null unless drafts come from the model's module
  std::vector<std::unique_ptr<RequestState>> requests_;
  Notices notices_;
  const StepPlan* plan_ = nullptr;
  PlanRecorder plans_;
  Scheduler::PrefixStats reported_prefix_;
  int32_t module_drafts_ = 0;  // made behind the last step
  int64_t num_steps_ = 0;
};

}  // namespace mole::runtime
