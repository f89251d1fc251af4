// mole-machine-bench: what this machine can do at most, with one thread and with all. Every figure
// of ours is held against these, measured in the same run.
#include <algorithm>
#include <cstdio>
#include <iostream>

#include "base/file.h"
#include "base/json.h"
#include "base/options.h"
#include "kernels/cases/ceilings.h"
#include "kernels/cpu/isa.h"
#include "load_tests/probe_bracket.h"

namespace mole::load_tests {
namespace {

using kernels::seconds_now;

constexpr int kBarrierTries = 20;
constexpr int kBarrierRounds = 2000;

/// Seconds from a parallel region's begin to its end when nothing is done in it; best of several.
double barrier_seconds(kernels::ThreadTeam& team) {
  auto nothing = [](int64_t, int64_t) {};
  double best = 1;
  for (int i = 0; i < kBarrierTries; ++i) {
    const double begin = seconds_now();
    for (int round = 0; round < kBarrierRounds; ++round) {
      team.parallel_for(team.num_threads(), 1, nothing);
    }
    best = std::min(best, (seconds_now() - begin) / kBarrierRounds);
  }
  return best;
}

Json measure(int32_t threads, bool brief) {
  kernels::ThreadTeam team(threads);
  const kernels::Ceilings ceilings = kernels::measure_ceilings(team, brief);
  const double barrier = barrier_seconds(team);
  std::printf("%7d %14.1f %14.1f %14.1f %14.0f %14.0f %14.2f\n", team.num_threads(),
              ceilings.memory_bytes_per_s / 1e9, ceilings.streams_bytes_per_s / 1e9,
              ceilings.cache_bytes_per_s / 1e9, ceilings.f32_flops / 1e9, ceilings.bf16_flops / 1e9,
              barrier * 1e6);
  std::fflush(stdout);
  return {{"threads", team.num_threads()},
          {"memory_bytes_per_s", ceilings.memory_bytes_per_s},
          {"streams_bytes_per_s", ceilings.streams_bytes_per_s},
          {"cache_bytes_per_s", ceilings.cache_bytes_per_s},
          {"f32_flops_per_s", ceilings.f32_flops},
          {"bf16_flops_per_s", ceilings.bf16_flops},
          {"barrier_seconds", barrier}};
}

/// Only the bandwidth, for whoever puts readings of it around other programs' work.
int print_probe(int32_t threads, int64_t bytes) {
  const ProbeReading reading = ProbeBracket(threads, bytes).read();
  const Json result = {{"one_stream_bytes_per_s", reading.one},
                       {"eight_streams_bytes_per_s", reading.eight},
                       {"best_bytes_per_s", reading.best()}};
  std::cout << result.dump() << "\n";
  return kExitOk;
}

int main_checked(int argc, char** argv) {
  int64_t threads = 0, probe_mib = 0;
  bool brief = false;
  std::string json;
  Options options("mole-machine-bench",
                  "This machine's ceilings, best of several short tries: what figures are held "
                  "against.");
  options.add("threads", &threads, 0, 1024, "threads", "Beside one; 0 = all cores");
  options.add("short", &brief, "Reads less memory than a cache may hold: shows that it runs");
  options.add(
      "probe-mib", &probe_mib, 0, 1 << 20, "MiB",
      "Only reads so much memory with all threads, and prints JSON; 0 = measure everything");
  options.add("json", &json, "File that gets all figures");
  int exit_code = 0;
  if (!options.parse(argc, argv, &exit_code)) return exit_code;
  if (probe_mib > 0) return print_probe(static_cast<int32_t>(threads), probe_mib << 20);
  std::printf("instruction set: %s\n", kernels::isa_name(kernels::isa()));
  std::printf("%7s %14s %14s %14s %14s %14s %14s\n", "threads", "memory GB/s", "8 streams GB/s",
              "cache GB/s", "f32 GFLOP/s", "bf16 GFLOP/s", "barrier us");
  const Json rows = {measure(1, brief), measure(static_cast<int32_t>(threads), brief)};
  if (json.empty()) return kExitOk;
  const Json result = {{"isa", kernels::isa_name(kernels::isa())}, {"rows", rows}};
  const Status written = write_file_atomic(json, result.dump(1) + "\n");
  if (!written.ok()) std::cerr << "mole-machine-bench: " << written.message() << "\n";
  return written.ok() ? kExitOk : kExitFailure;
}

}  // namespace
}  // namespace mole::load_tests

int main(int argc, char** argv) { return mole::load_tests::main_checked(argc, argv); }
