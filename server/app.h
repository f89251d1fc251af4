// What all handlers share: the served model (once it is loaded), limits, keys, the tokenizing pool.
// Thread: any; the model is set once by the main thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "runtime/engine.h"
#include "server/auth.h"
#include "server/limits.h"
#include "server/sampling_defaults.h"
#include "server/worker_pool.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace mole::server {

/// A loaded model with everything that answering for it needs. Read-only but for the engine.
struct ServedModel {
  std::vector<std::string> names;  // the first is shown, all are accepted
  int64_t created = 0;             // Unix seconds
  std::unique_ptr<runtime::Engine> engine;
  std::shared_ptr<const text::Tokenizer> tokenizer;
  std::shared_ptr<const text::ChatTemplate> chat_template;
  SamplingDefaults defaults;

  const std::string& name() const { return names.front(); }
};

struct AppOptions {
  ServerLimits limits;
  int tokenizer_threads = 1;
  ApiKeys api_keys;
  std::vector<std::string> allowed_origins;  // CORS; empty = off, "*" = all
};

class App {
 public:
  /// `metrics` and `clock` must outlive the app.
  App(AppOptions options, Metrics* metrics, const Clock* clock);
  /// Stops the tokenizing pool and the engine, whoever else still holds the model: from then on no
  /// thread of ours wakes a session. Stop the HTTP server first, destroy it afterwards.
  ~App();

  const ServerLimits& limits() const { return options_.limits; }
  const AppOptions& options() const { return options_; }
  Metrics& metrics() { return *metrics_; }
  const Clock& clock() const { return *clock_; }
  /// Runs `task` on the tokenizing pool. False when its queue is full or it is stopping.
  bool try_run(std::function<void()> task);

  /// Null until the model is loaded.
  std::shared_ptr<const ServedModel> model() const { return model_.load(); }
  void set_model(std::shared_ptr<const ServedModel> model);

  /// Loaded, not draining, and the engine makes progress: a request would be served.
  bool ready() const;
  /// The engine's thread has made progress lately (or there is none yet).
  bool alive() const;
  void begin_drain() { draining_ = true; }
  bool draining() const { return draining_; }

 private:
  const AppOptions options_;
  Metrics* const metrics_;
  const Clock* const clock_;
  std::atomic<std::shared_ptr<const ServedModel>> model_;
  std::atomic<bool> draining_{false};
  Gauge ready_gauge_;
  Gauge waiting_gauge_;
  WorkerPool pool_;  // last: its threads use the rest
};

}  // namespace mole::server
