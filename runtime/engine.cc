#include "runtime/engine.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "base/log.h"
#include "base/philox.h"
#include "runtime/drain_rate.h"
#include "runtime/engine_core.h"
#include "runtime/engine_metrics.h"
#include "runtime/inbox.h"
#include "runtime/limits.h"
#include "runtime/swap_limits.h"
#include "runtime/swap_setup.h"
#include "runtime/validate.h"

namespace mole::runtime {
namespace {

uint64_t random_key() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

// A cache that the machine can't hold must be an error now, not the kernel's killer later.
Status check_memory(int64_t kv_cache_bytes) {
  const int64_t memory = int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
  if (memory <= 0 || kv_cache_bytes < memory) return absl::OkStatus();
  return absl::InvalidArgumentError("kv-cache-bytes is " + std::to_string(kv_cache_bytes) +
                                    "; accepted: less than this machine's memory of " +
                                    std::to_string(memory) + " bytes");
}

uint64_t draw_seed(uint64_t key, RequestId id) {
  const auto words = philox4x32(key, id.value, 0);
  return (uint64_t{words[0]} << 32) | words[1];
}

}  // namespace

struct Engine::Impl {
  Impl(std::unique_ptr<model::Model> model, const EngineOptions& resolved, const Clock* the_clock,
       Metrics* registry)
      : options(resolved),
        clock(the_clock),
        metrics(registry),
        core(std::move(model), resolved, the_clock, &metrics) {
    metrics.max_num_seqs.set(options.max_num_seqs);
    metrics.max_num_batched_tokens.set(options.max_num_batched_tokens);
    metrics.max_queued_requests.set(options.max_queued_requests);
    metrics.max_queued_tokens.set(static_cast<double>(options.max_queued_tokens));
    metrics.max_prefill_wave_tokens.set(options.prefill_wave_tokens);
    metrics.target_inter_token.set(static_cast<double>(options.target_itl_us) * 1e-6);
    metrics.engine_healthy.set(1);
    last_step_us = clock->now_us();
    blocks_total = core.scheduler().pool().num_blocks();
  }

  Status admit(const GenerateRequest& request);
  void withdraw(int64_t prompt_tokens);
  void run();
  bool handle_letters();
  void handle_notices();
  void fail(const Status& status);

  const EngineOptions options;
  const Clock* const clock;
  EngineMetrics metrics;
  Inbox inbox;             // before the core, whose swap device wakes it until its end
  EngineCore core;         // the engine thread's, once it runs
  Inbox::Letters letters;  // the engine thread's
  DrainRate drain_rate;
  const uint64_t seed_key = random_key();

  std::atomic<uint64_t> next_id{1};
  std::atomic<bool> draining{false};
  std::atomic<bool> failed{false};
  std::atomic<int32_t> live_requests{0};    // accepted and not ended
  std::atomic<int32_t> queued_requests{0};  // of these, not yet started
  std::atomic<int64_t> queued_tokens{0};    // their prompt tokens
  std::atomic<TimeUs> last_step_us{0};
  std::atomic<int64_t> blocks_used{0};
  int64_t blocks_total = 0;
  std::thread thread;
};

// Counts the request in, or says why not. Bounds are checked after counting, so that two threads
// can't both take the last place.
Status Engine::Impl::admit(const GenerateRequest& request) {
  const auto tokens = static_cast<int64_t>(request.prompt.size());
  const int32_t requests_now = queued_requests.fetch_add(1) + 1;
  const int64_t tokens_now = queued_tokens.fetch_add(tokens) + tokens;
  live_requests.fetch_add(1);
  // A prompt larger than the whole bound may still wait alone: it could never come in otherwise.
  const bool tokens_fit = tokens_now <= options.max_queued_tokens || requests_now == 1;
  if (requests_now <= options.max_queued_requests && tokens_fit) return absl::OkStatus();
  withdraw(tokens);
  metrics.refused_queue_full.add();
  return absl::ResourceExhaustedError("the queue is full: " + std::to_string(requests_now - 1) +
                                      " of " + std::to_string(options.max_queued_requests) +
                                      " requests, " + std::to_string(tokens_now - tokens) + " of " +
                                      std::to_string(options.max_queued_tokens) +
                                      " prompt tokens are waiting");
}

void Engine::Impl::withdraw(int64_t prompt_tokens) {
  queued_requests.fetch_sub(1);
  queued_tokens.fetch_sub(prompt_tokens);
  live_requests.fetch_sub(1);
}

void Engine::Impl::run() {
  bool stop = false;
  while (!stop) {
    last_step_us = clock->now_us();
    const int64_t wait_us = core.idle() ? kIdleWaitUs : core.waits_for_pages() ? kSwapPollUs : 0;
    inbox.take(&letters, std::chrono::microseconds(wait_us));
    stop = handle_letters();
    if (!core.idle()) {
      const Status status = core.step();
      if (!status.ok()) fail(status);
    } else {
      core.tend_swap();
    }
    handle_notices();
  }
  core.abort_all(absl::CancelledError("the engine was stopped"));
  core.flush_swap();
  handle_notices();
}

bool Engine::Impl::handle_letters() {
  for (auto& request : letters.submitted) core.add(std::move(request));
  for (const Inbox::Cancel& cancel : letters.cancelled) {
    if (cancel.all) {
      core.cancel(cancel.id, std::nullopt);
      continue;
    }
    for (int32_t index = 0; index < kSequencesPerRequestMax; ++index) {
      if (cancel.indices.test(static_cast<size_t>(index))) core.cancel(cancel.id, index);
    }
  }
  if (letters.abort) core.abort_all(*letters.abort);
  // A request may have come in just before the failure was seen by its submitter.
  if (failed) core.abort_all(absl::UnavailableError("the engine has failed"));
  return letters.stop;
}

void Engine::Impl::handle_notices() {
  EngineCore::Notices& notices = core.notices();
  for (const EngineCore::Notices::LeftQueue& left : notices.left_queue) {
    const int32_t before = queued_requests.fetch_sub(1);
    queued_tokens.fetch_sub(left.prompt_tokens);
    drain_rate.left(clock->now_us(), before > 1);
  }
  for (const RequestId id : notices.ended) {
    inbox.forget(id);
    live_requests.fetch_sub(1);
  }
  notices.left_queue.clear();
  notices.ended.clear();
  metrics.waiting_tokens.set(static_cast<double>(queued_tokens));
  blocks_used = core.scheduler().pool().num_used();
}

void Engine::Impl::fail(const Status& status) {
  failed = true;  // first: whoever has read the error must not be accepted again
  metrics.engine_healthy.set(0);
  core.abort_all(status);
  log::error("the model failed: the engine takes no more requests",
             {{"error", std::string_view(status.message().data(), status.message().size())}});
  for (const std::string& plan : core.plans().recent()) log::error("step plan", {{"plan", plan}});
}

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->thread = std::thread([state = impl_.get()] { state->run(); });
}

Engine::~Engine() { stop(); }

void Engine::stop() {
  impl_->draining = true;
  impl_->inbox.stop();
  if (impl_->thread.joinable()) impl_->thread.join();
}

StatusOr<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<model::Model> model,
                                                 const EngineOptions& options, const Clock* clock,
                                                 Metrics* metrics) {
  MOLE_ASSIGN_OR_RETURN(const EngineOptions resolved, resolve_options(options, model->info()));
  MOLE_RETURN_IF_ERROR(check_memory(resolved.kv_cache_bytes));
  MOLE_ASSIGN_OR_RETURN(auto swap, open_swap(resolved, model->info()));
  auto impl = std::make_unique<Impl>(std::move(model), resolved, clock, metrics);
  if (swap != nullptr) {
    impl->core.use_swap(std::move(swap), [inbox = &impl->inbox] { inbox->wake(); });
  }
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

const model::ModelInfo& Engine::model_info() const { return impl_->core.model_info(); }
const EngineOptions& Engine::options() const { return impl_->options; }
RequestId Engine::next_request_id() { return RequestId{impl_->next_id.fetch_add(1)}; }

StatusOr<std::shared_ptr<OutputStream>> Engine::submit(GenerateRequest request) {
  Impl& state = *impl_;
  if (state.draining || state.failed) {
    state.metrics.refused_unavailable.add();
    return absl::UnavailableError(state.failed ? "the engine has failed"
                                               : "the server is shutting down");
  }
  const Status valid = validate(request, model_info(), state.options);
  if (!valid.ok()) {
    state.metrics.refused_invalid.add();
    return valid;
  }
  MOLE_RETURN_IF_ERROR(state.admit(request));
  const auto prompt_tokens = static_cast<int64_t>(request.prompt.size());
  const RequestStateOptions options{
      .seed = draw_seed(state.seed_key, request.id),
      .enable_prefix_caching = state.options.enable_prefix_caching,
      .vocab_size = model_info().vocab_size,
      .now_us = state.clock->now_us(),
      .stream_events_max = static_cast<size_t>(state.options.stream_events_max),
      .draft_tokens_max = state.options.draft_tokens_max(),
      .ngram = state.options.ngram_options()};
  std::unique_ptr<RequestState> accepted = make_request_state(std::move(request), options);
  std::shared_ptr<OutputStream> stream = accepted->stream;
  if (!state.inbox.submit(accepted)) {
    state.withdraw(prompt_tokens);
    if (state.draining) return absl::UnavailableError("the server is shutting down");
    return absl::InvalidArgumentError("request id " + std::to_string(stream->id().value) +
                                      " is in use; accepted: ids from next_request_id()");
  }
  return stream;
}

void Engine::cancel(RequestId id, std::optional<int32_t> index) { impl_->inbox.cancel(id, index); }

void Engine::begin_drain() { impl_->draining = true; }
bool Engine::draining() const { return impl_->draining; }
bool Engine::idle() const { return impl_->live_requests == 0; }
void Engine::abort_all(Status status) { impl_->inbox.abort_all(status); }

EngineStats Engine::stats() const {
  const Impl& state = *impl_;
  const int32_t waiting = state.queued_requests;
  return {.last_step_us = state.last_step_us,
          .running = std::max(0, state.live_requests - waiting),
          .waiting = waiting,
          .blocks_used = state.blocks_used,
          .blocks_total = state.blocks_total};
}

std::vector<std::string> Engine::recent_plans() const { return impl_->core.plans().recent(); }

int64_t Engine::retry_after_ms() const {
  return impl_->drain_rate.retry_after_ms(impl_->clock->now_us(), impl_->queued_requests);
}

}  // namespace mole::runtime
