#include <atomic>
#include <csignal>
#include <cstring>
#include <iostream>

#include "base/options.h"
#include "trainer/commands.h"
#include "trainer/config.h"
#include "trainer/training_run.h"

namespace mole::trainer {
namespace {

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "set from a signal handler");

void request_stop(int) { stop_requested = true; }

struct TrainArguments {
  std::string config;
  std::vector<std::string> settings;
  ResumeOptions resume;
  bool print_config = false;
};

void print_train_help() {
  std::cout
      << "trainer train --config FILE.yaml [options]\n\n"
         "  --config FILE           what to train, on what, and how (keys below)\n"
         "  --set SECTION.KEY=VALUE changes a key after the file is read; may be given again\n"
         "  --resume auto|never|DIR auto: from the newest whole checkpoint of run.output, if any\n"
         "  --allow-config-change   resume although keys differ that the bits depend on\n"
         "  --print-config          print the configuration as JSON and end\n\n"
         "SIGTERM and SIGINT end the run after the step with a checkpoint, exit code 0.\n\n"
         "Keys of the YAML file:\n"
      << describe_config();
}

/// Own parsing: here --config is the run's file, not a file of flags as base/options.h has it.
/// Returns false to end with `*exit_code`.
bool parse(int argc, const char* const* argv, TrainArguments* out, int* exit_code) {
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i], value;
    const size_t equals = name.find('=');
    const bool inline_value = equals != std::string::npos;
    if (inline_value) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    if (name == "--help" || name == "-h") {
      print_train_help();
      *exit_code = kExitOk;
      return false;
    }
    if (name == "--print-config" || name == "--allow-config-change") {
      (name == "--print-config" ? out->print_config : out->resume.allow_config_change) = true;
      continue;
    }
    const bool known = name == "--config" || name == "--set" || name == "--resume";
    if (!known || (!inline_value && i + 1 == argc)) {
      std::cerr << "trainer train: " << (known ? "no value for " : "unknown argument ") << name
                << "; `trainer train --help` lists them\n";
      *exit_code = kExitUsage;
      return false;
    }
    if (!inline_value) value = argv[++i];
    if (name == "--config") out->config = value;
    if (name == "--resume") out->resume.from = value;
    if (name == "--set") out->settings.push_back(value);
  }
  if (!out->config.empty()) return true;
  std::cerr << "trainer train: --config: must be given\n";
  *exit_code = kExitUsage;
  return false;
}

}  // namespace

int run_train(int argc, const char* const* argv) {
  TrainArguments arguments;
  int exit_code = kExitOk;
  if (!parse(argc, argv, &arguments, &exit_code)) return exit_code;
  const StatusOr<TrainConfig> config = load_config(arguments.config, arguments.settings);
  if (!config.ok()) return report("train", config.status());
  if (arguments.print_config) {
    std::cout << config->to_json().dump(2) << "\n";
    return kExitOk;
  }
  auto run = TrainingRun::open(*config, arguments.resume);
  if (!run.ok()) return report("train", run.status());
  std::signal(SIGTERM, request_stop);
  std::signal(SIGINT, request_stop);
  const Status status = (*run)->run(stop_requested);
  return status.ok() ? kExitOk : report("train", status);
}

}  // namespace mole::trainer
