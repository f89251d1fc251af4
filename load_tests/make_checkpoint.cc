// mole-make-checkpoint: a checkpoint with random weights and the layer shapes of a published model,
// scaled by layers and experts, so that anyone can repeat our tables without a download.
#include <chrono>
#include <iostream>
#include <thread>

#include "base/options.h"
#include "load_tests/bench_models.h"
#include "load_tests/checkpoint_writer.h"

namespace mole::load_tests {
namespace {

struct Arguments {
  std::string output, preset = "none", tokenizer_from;
  BenchModel model;
  int64_t seed = 0, threads = 0, shard_mib = 1024;
};

int fail(const Status& status) {
  std::cerr << "mole-make-checkpoint: " << status.message() << "\n";
  return absl::IsInvalidArgument(status) ? kExitUsage : kExitFailure;
}

int make(Arguments arguments) {
  if (arguments.output.empty()) {
    return fail(absl::InvalidArgumentError("the output folder is missing; see --help"));
  }
  if (arguments.preset != "none") {
    const auto chosen = preset(arguments.preset);
    if (!chosen.ok()) return fail(chosen.status());
    arguments.model.shape = chosen->shape;
    if (arguments.model.experts == 0) arguments.model.experts = chosen->experts;
  }
  const auto config = bench_config(arguments.model);
  if (!config.ok()) return fail(config.status());
  const auto cores = static_cast<int64_t>(std::thread::hardware_concurrency());
  const auto begin = std::chrono::steady_clock::now();
  const auto written = write_checkpoint(
      arguments.output, *config,
      {.seed = static_cast<uint64_t>(arguments.seed),
       .shard_bytes_max = arguments.shard_mib << 20,
       .threads = static_cast<int32_t>(arguments.threads > 0 ? arguments.threads : cores),
       .tokenizer_from = arguments.tokenizer_from});
  if (!written.ok()) return fail(written.status());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  std::cout << arguments.output << ": " << written->parameters << " parameters, " << written->bytes
            << " bytes in " << written->shards << " files, "
            << static_cast<double>(written->bytes) / 1e6 / took.count() << " MB/s\n";
  return kExitOk;
}

}  // namespace
}  // namespace mole::load_tests

int main(int argc, char** argv) {
  using namespace mole::load_tests;
  Arguments arguments;
  std::vector<std::string> presets = preset_names();
  presets.insert(presets.begin(), "none");
  mole::Options options("mole-make-checkpoint",
                        "A checkpoint with random weights and published layer shapes.");
  options.add_positional("output", &arguments.output, "Folder to make");
  options.add_choice("preset", &arguments.preset, presets, "A bench model by name; sets the shape");
  options.add_choice("shape", &arguments.model.shape, shape_names(), "Whose layers");
  options.add("layers", &arguments.model.layers, 0, 1024, "layers", "0 = as published");
  options.add("experts", &arguments.model.experts, 0, 65536, "experts",
              "Routed experts of a layer; 0 = as published");
  options.add("mtp-layers", &arguments.model.mtp_layers, 0, 8, "modules",
              "Multi-token-prediction modules, shape v3 only");
  options.add_choice("dtype", &arguments.model.dtype, {"bfloat16", "float32"}, "Of the tensors");
  options.add("seed", &arguments.seed, 0, int64_t{1} << 62, "", "Every value follows from it");
  options.add("tokenizer-from", &arguments.tokenizer_from,
              "Folder whose tokenizer is copied; without it one is made up that knows every id");
  options.add("threads", &arguments.threads, 0, 1024, "threads", "0 = all cores");
  options.add("shard-mib", &arguments.shard_mib, 1, 1 << 16, "MiB",
              "Files are about this large, and so is the memory taken");
  int exit_code = 0;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  return make(arguments);
}
