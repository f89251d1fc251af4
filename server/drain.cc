#include "server/drain.h"

#include "base/log.h"

namespace mole::server {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kLook(20);
// For error events to reach their clients after the engine has given up on them.
constexpr TimeUs kFlushUs = 3'000'000;
constexpr TimeUs kFastFlushUs = 300'000;

// Until no request is open, or the time is over, or the operator insists (true).
bool wait_for_requests(const App& app, const HttpServer& server, TimeUs until_us,
                       const AskedAgain& asked_again) {
  while (server.open_requests() > 0 && app.clock().now_us() < until_us) {
    if (asked_again(kLook)) return true;
  }
  return false;
}

}  // namespace

void drain_and_stop(App& app, HttpServer& server, const AskedAgain& asked_again) {
  log::info("draining",
            {{"open_requests", server.open_requests()}, {"drain_ms", app.limits().drain_ms}});
  app.begin_drain();
  server.begin_drain();
  const auto model = app.model();
  if (model != nullptr) model->engine->begin_drain();
  const TimeUs drained_us = app.clock().now_us() + app.limits().drain_ms * 1'000;
  const bool insisted = wait_for_requests(app, server, drained_us, asked_again);
  if (server.open_requests() > 0) {
    log::warn("ending requests that did not finish", {{"open_requests", server.open_requests()}});
    if (model != nullptr) {
      model->engine->abort_all(absl::UnavailableError("the server is shutting down"));
    }
    const TimeUs flush_us = insisted ? kFastFlushUs : kFlushUs;
    wait_for_requests(app, server, app.clock().now_us() + flush_us, asked_again);
  }
  server.stop();
  log::info("stopped");
}

}  // namespace mole::server
