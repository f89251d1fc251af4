// mole-engine-bench: prefill and decode speed of a checkpoint through Model::forward, without
// server and scheduler, beside the bytes that a step must at least read and the bandwidth that the
// machine had just before and after. With --short it runs few steps and checks instead that a
// sequence's logits are the same bits alone and in every batch it was timed in.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <map>
#include <optional>
#include <sstream>
#include <vector>

#include "base/file.h"
#include "base/options.h"
#include "kernels/cases/ceilings.h"
#include "load_tests/lockstep_batch.h"
#include "load_tests/probe_bracket.h"
#include "load_tests/step_floor.h"
#include "model/registry.h"

namespace mole::load_tests {
namespace {

using kernels::median;

constexpr int32_t kPrefillChunk = 512;

struct BenchOptions {
  std::string model = "models/demo";
  std::string dtype = "auto", quantization = "auto", kv_cache_dtype = "auto";
  std::string batches = "1,2,8,16,32", depths = "128", prompts = "32,512";
  std::string json;
  int64_t threads = 0, repeats = 9, tries = 3, probe_mib = 2048, row_seconds = 60;
  bool short_form = false;
};

/// "1,2,8" -> {1, 2, 8}; nothing if an entry is no number of [1, 1048576]. "" is an empty list.
std::optional<std::vector<int32_t>> parse_list(const std::string& text) {
  std::vector<int32_t> values;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) {
    const bool digits = !part.empty() && part.size() <= 7 &&
                        part.find_first_not_of("0123456789") == std::string::npos;
    const int32_t value = digits ? std::stoi(part) : 0;
    if (value < 1 || value > 1 << 20) return std::nullopt;
    values.push_back(value);
  }
  return values;
}

int64_t count_touched(const std::vector<int64_t>& loads) {
  return std::count_if(loads.begin(), loads.end(), [](int64_t load) { return load > 0; });
}

double checked(const StatusOr<double>& seconds) {
  if (seconds.ok()) return *seconds;
  std::cerr << "mole-engine-bench: " << seconds.status().message() << "\n";
  std::exit(kExitFailure);
}

class EngineBench {
 public:
  EngineBench(const BenchOptions& options, model::Model& model, const StepFloor& floor,
              kernels::KvFormat cache_format)
      : options_(options),
        model_(model),
        floor_(floor),
        cache_format_(cache_format),
        probe_(static_cast<int32_t>(options.threads),
               options.short_form ? 0 : options.probe_mib << 20) {
    if (options.short_form) return;
    kernels::ThreadTeam team(static_cast<int32_t>(options.threads));
    peak_flops_ = kernels::measure_ceilings(team, true).bf16_flops;
  }

  void prefill(int32_t tokens) {
    LockstepBatch batch(model_, cache_format_, 1, tokens);
    std::vector<double> seconds;
    const Bracket bracket = probe_.around(options_.tries, [&] {
      seconds.clear();
      if (!options_.short_form) checked(batch.prefill(std::min(tokens, kPrefillChunk), tokens));
      const double begin = kernels::seconds_now();
      do {
        seconds.push_back(checked(batch.prefill(tokens, tokens)));
      } while (std::ssize(seconds) < options_.repeats &&
               kernels::seconds_now() - begin < static_cast<double>(options_.row_seconds));
    });
    const double took = median(seconds);
    // Every token attends to itself and all before it.
    const double flops = static_cast<double>(floor_.flops_per_token) * tokens +
                         0.5 * static_cast<double>(floor_.attention_flops) * tokens * tokens;
    std::printf("prefill %6d tokens: %9.1f ms %9.1f tok/s %7.3f TFLOP/s %5.2f of peak  %s\n",
                tokens, took * 1e3, tokens / took, flops / took / 1e12,
                peak_flops_ > 0 ? flops / took / peak_flops_ : 0, describe(bracket).c_str());
    std::fflush(stdout);
    Json row = to_json(bracket, seconds);
    row.update({{"what", "prefill"},
                {"tokens", tokens},
                {"tokens_per_s", tokens / took},
                {"flops_per_s", flops / took}});
    rows_.push_back(std::move(row));
  }

  /// False if sequence 0's logits depend on the batch.
  bool decode(int32_t sequences, int32_t depth) {
    const auto steps = static_cast<int32_t>(options_.repeats);
    LockstepBatch batch(model_, cache_format_, sequences, depth + steps);
    std::vector<double> seconds;
    double bytes = 0, touched = 0;
    const Bracket bracket = probe_.around(options_.tries, [&] {
      checked(batch.prefill(depth, kPrefillChunk));
      (void)model_.take_expert_loads();
      seconds.clear();
      bytes = touched = 0;
      for (int32_t i = 0; i < steps; ++i) {
        seconds.push_back(checked(batch.decode()));
        const int64_t experts = count_touched(model_.take_expert_loads());
        touched += static_cast<double>(experts) / steps;
        bytes += static_cast<double>(floor_.step_bytes(
                     experts, int64_t{sequences} * batch.position(), batch.entry_bytes())) /
                 steps;
      }
    });
    report(sequences, depth, seconds, bytes, touched / std::max(floor_.num_moe_layers, 1), bracket);
    std::vector<float> logits = batch.logits_of(0);
    const auto [alone, first] = alone_.try_emplace(depth, logits);
    return first ||
           std::memcmp(alone->second.data(), logits.data(), logits.size() * sizeof(float)) == 0;
  }

  const Json& rows() const { return rows_; }
  double peak_flops() const { return peak_flops_; }

 private:
  void report(int32_t sequences, int32_t depth, const std::vector<double>& seconds, double bytes,
              double touched, const Bracket& bracket) {
    const double took = median(seconds);
    const double rate = bytes / took;
    const double of_one = bracket.one() > 0 ? rate / bracket.one() : 0;
    const double of_best = bracket.best() > 0 ? rate / bracket.best() : 0;
    std::printf(
        "decode %3d x %6d: %8.2f ms %8.1f tok/s %6.1f experts %8.1f MB %6.1f GB/s %5.2f of probe "
        "%5.2f of best  "
        "%s\n",
        sequences, depth, took * 1e3, sequences / took, touched, bytes / 1e6, rate / 1e9, of_one,
        of_best, describe(bracket).c_str());
    std::fflush(stdout);
    Json row = to_json(bracket, seconds);
    row.update({{"what", "decode"},
                {"batch", sequences},
                {"depth", depth},
                {"tokens_per_s", sequences / took},
                {"experts_touched", touched},
                {"step_bytes", bytes},
                {"of_probe", of_one},
                {"of_best_probe", of_best}});
    rows_.push_back(std::move(row));
  }

  std::string describe(const Bracket& bracket) const {
    if (bracket.before.one <= 0) return "";
    char text[128];
    std::snprintf(text, sizeof text, "probe %.1f/%.1f GB/s, eight streams %.1f/%.1f%s",
                  bracket.before.one / 1e9, bracket.after.one / 1e9, bracket.before.eight / 1e9,
                  bracket.after.eight / 1e9,
                  bracket.swing() > kSteadySwing ? " UNSTEADY: no claim" : "");
    return text;
  }

  static Json to_json(const Bracket& bracket, const std::vector<double>& seconds) {
    const auto [least, most] = std::minmax_element(seconds.begin(), seconds.end());
    return {{"seconds_median", median(seconds)},
            {"seconds_min", *least},
            {"seconds_max", *most},
            {"repeats", seconds.size()},
            {"probe_before_bytes_per_s", {bracket.before.one, bracket.before.eight}},
            {"probe_after_bytes_per_s", {bracket.after.one, bracket.after.eight}},
            {"steady", bracket.swing() <= kSteadySwing}};
  }

  const BenchOptions& options_;
  model::Model& model_;
  StepFloor floor_;
  kernels::KvFormat cache_format_;
  ProbeBracket probe_;
  double peak_flops_ = 0;
  std::map<int32_t, std::vector<float>>
      alone_;  // by depth: logits of sequence 0 in the first batch
  Json rows_ = Json::array();
};

struct Work {
  std::vector<int32_t> batches, depths, prompts;
};

int run(const Work& work, EngineBench& bench) {
  for (const int32_t tokens : work.prompts) bench.prefill(tokens);
  for (const int32_t depth : work.depths) {
    for (const int32_t sequences : work.batches) {
      if (bench.decode(sequences, depth)) continue;
      std::cerr << "logits of a sequence differ between a batch of " << work.batches.front()
                << " and one of " << sequences << " after " << depth << " tokens\n";
      return kExitFailure;
    }
  }
  if (work.batches.size() > 1) std::printf("bits: equal in every batch\n");
  return kExitOk;
}

kernels::KvFormat cache_format(const std::string& name) {
  if (name == "int8") return kernels::KvFormat::kInt8;
  return name == "fp8" ? kernels::KvFormat::kFp8 : kernels::KvFormat::kModel;
}

int bench(const BenchOptions& options, const Work& work) {
  const auto begin = std::chrono::steady_clock::now();
  auto model = model::load_model(options.model, {.dtype = options.dtype,
                                                 .quantization = options.quantization,
                                                 .threads = static_cast<int32_t>(options.threads)});
  const auto config = read_config(options.model);
  if (!model.ok() || !config.ok()) {
    std::cerr << "mole-engine-bench: " << (model.ok() ? config.status() : model.status()).message()
              << "\n";
    return kExitModel;
  }
  const std::chrono::duration<double> loading = std::chrono::steady_clock::now() - begin;
  const model::ModelInfo info = (*model)->info();
  if (options.kv_cache_dtype != "auto" && !info.kv_compressible) {
    std::cerr << "mole-engine-bench: kv-cache-dtype is " << options.kv_cache_dtype
              << "; this model accepts auto\n";
    return kExitConfiguration;
  }
  std::printf(
      "%s: %s, %s, quantization %s, cache %s, %.3f G parameters (%.3f active), %.2f GB of "
      "weights, loaded in %.1f s\n",
      options.model.c_str(), info.architecture.c_str(), std::string(dtype_name(info.dtype)).c_str(),
      options.quantization.c_str(), options.kv_cache_dtype.c_str(),
      static_cast<double>(info.num_parameters) / 1e9,
      static_cast<double>(info.num_active_parameters) / 1e9,
      static_cast<double>(info.weight_bytes) / 1e9, loading.count());
  EngineBench engine(options, **model, step_floor(*config, info, options.quantization),
                     cache_format(options.kv_cache_dtype));
  const int code = run(work, engine);
  if (code != kExitOk || options.json.empty()) return code;
  const Json result = {{"model", options.model},
                       {"dtype", dtype_name(info.dtype)},
                       {"quantization", options.quantization},
                       {"kv_cache_dtype", options.kv_cache_dtype},
                       {"threads", options.threads},
                       {"parameters", info.num_parameters},
                       {"weight_bytes", info.weight_bytes},
                       {"load_seconds", loading.count()},
                       {"peak_flops_per_s", engine.peak_flops()},
                       {"rows", engine.rows()}};
  const Status written = write_file_atomic(options.json, result.dump(1) + "\n");
  if (!written.ok()) std::cerr << "mole-engine-bench: " << written.message() << "\n";
  return written.ok() ? kExitOk : kExitFailure;
}

int main_checked(int argc, char** argv) {
  BenchOptions bench_options;
  Options options("mole-engine-bench", "Prefill and decode speed of a checkpoint.");
  options.add("model", &bench_options.model, "Checkpoint folder");
  options.add_choice("dtype", &bench_options.dtype, {"auto", "float32", "bfloat16"},
                     "Compute type");
  options.add("quantization", &bench_options.quantization,
              "Of the weights, as mole-server takes it: auto, none, int8, int4, fp8, …");
  options.add_choice("kv-cache-dtype", &bench_options.kv_cache_dtype, {"auto", "int8", "fp8"},
                     "Form of the cache");
  options.add("threads", &bench_options.threads, 0, 1024, "threads",
              "Of the kernels; 0 = all cores");
  options.add("prompts", &bench_options.prompts, "Lengths to prefill in one step, with commas");
  options.add("batches", &bench_options.batches, "Sequences to decode together, with commas");
  options.add("depths", &bench_options.depths, "Tokens of context before decoding, with commas");
  options.add("repeats", &bench_options.repeats, 1, 1 << 20, "runs",
              "Of a prompt, and decode steps; the median counts");
  options.add("row-seconds", &bench_options.row_seconds, 1, 1 << 20, "seconds",
              "A prompt is not repeated any more after these");
  options.add("tries", &bench_options.tries, 1, 100, "tries",
              "A figure is taken again while the machine's bandwidth swings by more than 10 %");
  options.add("probe-mib", &bench_options.probe_mib, 0, 1 << 20, "MiB",
              "Memory of the bandwidth probe, several times the last cache; 0 = no probe");
  options.add("json", &bench_options.json, "File that gets all figures");
  options.add("short", &bench_options.short_form, "Few steps: checks results, not speed");
  int exit_code = 0;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (bench_options.short_form) {
    bench_options.prompts = "33";
    bench_options.depths = "70";
    bench_options.repeats = 3;
    bench_options.tries = 1;
  }
  const auto batches = parse_list(bench_options.batches), depths = parse_list(bench_options.depths);
  const auto prompts = parse_list(bench_options.prompts);
  if (!batches || !depths || !prompts) {
    std::cerr << "mole-engine-bench: batches, depths and prompts are numbers from 1 to 1048576 "
                 "with commas between them\n";
    return kExitUsage;
  }
  return bench(bench_options, {*batches, *depths, *prompts});
}

}  // namespace
}  // namespace mole::load_tests

int main(int argc, char** argv) { return mole::load_tests::main_checked(argc, argv); }
