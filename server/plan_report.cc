#include "server/plan_report.h"

#include "base/log.h"

namespace mole::server {

void log_recent_plans(const App& app) {
  const auto model = app.model();
  if (model == nullptr) {
    log::info("no steps yet: the model is still loading");
    return;
  }
  const runtime::EngineStats stats = model->engine->stats();
  const auto plans = model->engine->recent_plans();
  log::info("recent steps", {{"steps", plans.size()},
                             {"now_us", app.clock().now_us()},
                             {"last_progress_us", stats.last_step_us},
                             {"running", stats.running},
                             {"waiting", stats.waiting},
                             {"kv_blocks_used", stats.blocks_used},
                             {"kv_blocks", stats.blocks_total}});
  for (const std::string& plan : plans) log::info("step plan", {{"plan", plan}});
}

}  // namespace mole::server
