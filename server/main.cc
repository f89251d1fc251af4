// mole-server: serves one model over HTTP. Lifecycle only: options, listen, load, wait, drain.
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <future>
#include <iostream>
#include <memory>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/log.h"
#include "base/options.h"
#include "model/registry.h"
#include "server/drain.h"
#include "server/http_server.h"
#include "server/load_model.h"
#include "server/memory_plan.h"
#include "server/plan_report.h"
#include "server/routes.h"
#include "server/settings.h"
#include "server/signals.h"

namespace mole::server {
namespace {

using std::chrono::milliseconds;

int fail(int code, const std::string& message) {
  log::error(message, {{"exit_code", code}});
  return code;
}

log::Level parse_level(const std::string& name) {
  if (name == "debug") return log::Level::kDebug;
  if (name == "warn") return log::Level::kWarn;
  return name == "error" ? log::Level::kError : log::Level::kInfo;
}

/// The exit code, or kExitOk: the model is set and ready.
int load(const Settings& settings, App& app, const Clock* clock, Metrics* metrics) {
  const TimeUs begin_us = clock->now_us();
  auto reading =
      std::async(std::launch::async, [&] { return read_model_texts(settings.model_path()); });
  auto model = model::load_model(settings.model_path(), load_options(settings));
  if (!model.ok()) return fail(kExitModel, std::string(model.status().message()));
  const model::ModelInfo info = (*model)->info();
  auto texts = reading.get();
  if (!texts.ok()) return fail(kExitModel, std::string(texts.status().message()));
  auto served = serve_model(std::move(*model), *std::move(texts), settings, clock, metrics);
  if (!served.ok()) {
    const bool option = absl::IsFailedPrecondition(served.status());
    return fail(option ? kExitConfiguration : kExitModel, std::string(served.status().message()));
  }
  const runtime::EngineOptions options = (*served)->engine->options();
  log::info("model loaded", {{"model", (*served)->name()},
                             {"architecture", info.architecture},
                             {"parameters", info.num_parameters},
                             {"active_parameters", info.num_active_parameters},
                             {"weight_bytes", info.weight_bytes},
                             {"dtype", dtype_name(info.dtype)},
                             {"quantization", info.quantization},
                             {"max_model_len", options.max_model_len},
                             {"kv_cache_bytes", options.kv_cache_bytes},
                             {"seconds", static_cast<double>(clock->now_us() - begin_us) / 1e6}});
  app.set_model(*std::move(served));
  return kExitOk;
}

/// Checks that need no model. kExitOk to go on.
int check(const Settings& settings, ApiKeys* keys) {
  if (settings.model_path().empty()) {
    std::cerr << "mole-server: no model given; try: mole-server DIR (--help lists all options)\n";
    return kExitUsage;
  }
  if (!std::filesystem::is_directory(settings.model_path())) {
    return fail(kExitModel, settings.model_path() + ": is not a directory");
  }
  if (!settings.api_key_file.empty()) {
    auto loaded = ApiKeys::load(settings.api_key_file);
    if (!loaded.ok()) {
      return fail(kExitConfiguration, "api-key-file: " + std::string(loaded.status().message()));
    }
    *keys = *std::move(loaded);
  }
  if (!is_loopback(settings.host) && keys->empty() && !settings.insecure) {
    return fail(kExitConfiguration, "host: " + settings.host +
                                        " lets other machines connect; give --api-key-file, or "
                                        "--insecure if that is meant");
  }
  return kExitOk;
}

int print_plan(const Settings& settings) {
  const StatusOr<MemoryPlan> plan = plan_memory(settings);
  if (!plan.ok()) return fail(kExitModel, std::string(plan.status().message()));
  std::cout << to_yaml(*plan);
  return kExitOk;
}

int run(const Settings& settings, ApiKeys keys) {
  SteadyClock clock;
  Metrics metrics;
  metrics.gauge("build_info", "Always 1; the version is a label", {{"version", MOLE_VERSION}})
      .set(1);
  std::unique_ptr<HttpServer> server;  // before the app, to go after it (http_server.h)
  App app({.limits = settings.limits,
           .tokenizer_threads = static_cast<int>(settings.tokenizer_threads),
           .api_keys = std::move(keys),
           .allowed_origins = settings.allowed_origins},
          &metrics, &clock);
  Router router(&app);
  auto listening = HttpServer::listen({.host = settings.host,
                                       .port = static_cast<uint16_t>(settings.port),
                                       .io_threads = static_cast<int>(settings.io_threads),
                                       .limits = settings.limits},
                                      &router, &metrics, &clock);
  if (!listening.ok()) {
    const bool wrong_host = absl::IsInvalidArgument(listening.status());
    return fail(wrong_host ? kExitConfiguration : kExitFailure,
                std::string(listening.status().message()));
  }
  server = *std::move(listening);
  const int port = server->port();
  if (!settings.port_file.empty()) {
    const Status written = write_file_atomic(settings.port_file, std::to_string(port) + "\n");
    if (!written.ok()) return fail(kExitFailure, "port-file: " + std::string(written.message()));
  }
  server->start();
  log::info("listening", {{"host", settings.host}, {"port", port}});

  const auto asked_to_end = [&](milliseconds timeout) {
    return wait_for_termination(timeout, [&] { log_recent_plans(app); });
  };
  auto loading =
      std::async(std::launch::async, [&] { return load(settings, app, &clock, &metrics); });
  while (loading.wait_for(milliseconds(0)) != std::future_status::ready) {
    if (asked_to_end(milliseconds(20))) {
      log::info("stopped while loading");
      std::_Exit(kExitOk);  // a load can't be interrupted, and holds nothing that must be undone
    }
  }
  if (const int code = loading.get(); code != kExitOk) {
    server->stop();
    return code;
  }
  log::info("ready", {{"url", "http://" + settings.host + ":" + std::to_string(port)}});
  while (!asked_to_end(std::chrono::hours(1))) {
  }
  drain_and_stop(app, *server, asked_to_end);
  return kExitOk;
}

int main_checked(int argc, char** argv) {
  block_signals();
  Settings settings;
  Options options("mole-server",
                  "Serves a Mixture-of-Experts language model over an OpenAI-compatible HTTP API.");
  declare_options(options, &settings);
  int code = kExitOk;
  if (!options.parse(argc, argv, &code)) return code;
  if (settings.version) {
    std::cout << "mole-server " << MOLE_VERSION << "\n";
    return kExitOk;
  }
  if (settings.print_config) {
    std::cout << options.to_yaml();
    return kExitOk;
  }
  log::set_level(parse_level(settings.log_level));
  ApiKeys keys;
  code = check(settings, &keys);
  if (code != kExitOk) return code;
  return settings.plan ? print_plan(settings) : run(settings, std::move(keys));
}

}  // namespace
}  // namespace mole::server

int main(int argc, char** argv) {
  try {
    return mole::server::main_checked(argc, argv);
  } catch (const std::exception& e) {
    return mole::server::fail(mole::kExitFailure, std::string("unexpected: ") + e.what());
  }
}
