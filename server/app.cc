#include "server/app.h"

namespace mole::server {
namespace {

// An engine without progress for so long is stuck; the process should be restarted.
constexpr TimeUs kHeartbeatMaxUs = 30'000'000;

}  // namespace

App::App(AppOptions options, Metrics* metrics, const Clock* clock)
    : options_(std::move(options)),
      metrics_(metrics),
      clock_(clock),
      ready_gauge_(metrics->gauge("model_loaded", "1 once the model is loaded")),
      waiting_gauge_(
          metrics->gauge("tokenizer_queue", "Requests waiting to be read and tokenized")),
      pool_(options_.tokenizer_threads, static_cast<size_t>(options_.limits.tokenizer_queue_max)) {
  metrics->gauge("limit_tokenizer_queue", "Bound of tokenizer_queue.")
      .set(static_cast<double>(options_.limits.tokenizer_queue_max));
}

App::~App() {
  pool_.stop();
  const auto served = model();
  if (served != nullptr) served->engine->stop();
}

bool App::try_run(std::function<void()> task) {
  const bool queued = pool_.try_run([this, task = std::move(task)] {
    waiting_gauge_.set(static_cast<double>(pool_.queued()));
    task();
  });
  waiting_gauge_.set(static_cast<double>(pool_.queued()));
  return queued;
}

void App::set_model(std::shared_ptr<const ServedModel> model) {
  model_.store(std::move(model));
  ready_gauge_.set(1);
}

bool App::alive() const {
  const auto served = model();
  return served == nullptr ||
         clock_->now_us() - served->engine->stats().last_step_us < kHeartbeatMaxUs;
}

bool App::ready() const { return model() != nullptr && !draining() && alive(); }

}  // namespace mole::server
