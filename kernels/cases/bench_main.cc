// mole-kernel-bench: times every operation's cases beside this machine's own ceilings.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "kernels/cases/case.h"
#include "kernels/cases/ceilings.h"
#include "kernels/cases/gemv_probe.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

constexpr char kUsage[] =
    "usage: mole-kernel-bench [--op NAME] [--threads N] [--short] [--json] [--memory]\n"
    "  --op NAME     only operations whose name begins with NAME\n"
    "  --threads N   workers; 0, the default, is one per core\n"
    "  --short       check results on a few cases and time little: for CI\n"
    "  --json        one JSON object a line\n"
    "  --memory      only cases whose weights come from memory, in turn with the memory probe\n"
    "MOLE_ISA=avx2|avx512|amx lowers the instruction set.\n";

struct Options {
  std::string op;
  int32_t threads = 0;
  bool brief = false, json = false, memory = false;
};

struct Timing {
  double best = 0, median = 0, p90 = 0;  // seconds
};

/// At least 30 runs, or 3 in the brief form, and no more than about half a second.
Timing time_case(KernelCase& kernel_case, ThreadTeam& team, bool brief) {
  const std::size_t at_least = brief ? 3 : 30, at_most = brief ? 3 : 2000;
  const double limit = 0.5;
  kernel_case.run(team);
  std::vector<double> seconds;
  double total = 0;
  while (seconds.size() < at_least || (total < limit && seconds.size() < at_most)) {
    const double start = seconds_now();
    kernel_case.run(team);
    seconds.push_back(seconds_now() - start);
    total += seconds.back();
    if (total > 8 * limit && seconds.size() >= 5) break;
  }
  std::sort(seconds.begin(), seconds.end());
  const std::size_t last = seconds.size() - 1;
  return {seconds[0], seconds[last / 2], seconds[last * 9 / 10]};
}

/// One case beside the memory probe, taken in turn with it.
struct MemoryTiming {
  double seconds = 0, probe = 0, streams = 0, peak = 0;  // medians; bytes/s, flop/s
};

long switches() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nivcsw;
}

/// Of one short try in registers; 0 without AMX.
double bf16_flops(ThreadTeam& team) {
  if (isa() != Isa::kAmx) return 0;
  constexpr int64_t kRounds = 4000;
  auto part = [](int64_t begin, int64_t end) { probe_amx(kRounds * (end - begin)); };
  const double start = seconds_now();
  team.parallel_for(team.num_threads(), 1, part);
  return kFlopsPerAmxRound * static_cast<double>(kRounds * team.num_threads()) /
         (seconds_now() - start);
}

/// At least 9 turns in which no thread lost its core, or as many as fit in two seconds.
MemoryTiming time_from_memory(KernelCase& kernel_case, GemvProbe& probe, ThreadTeam& team) {
  constexpr std::size_t kAtLeast = 9;
  constexpr double kLimit = 0.5;
  const auto bytes = std::min(static_cast<int64_t>(kernel_case.bytes()), int64_t{64} << 20);
  for (int i = 0; i < 2; ++i) kernel_case.run(team);
  std::vector<double> seconds, one, eight, flops;
  const double begin = seconds_now();
  while (seconds_now() - begin < (seconds.size() < kAtLeast ? 4 * kLimit : kLimit)) {
    const long before = switches();
    const double one_stream = probe.rate(team, bytes);
    const double eight_streams = probe.rate(team, bytes, GemvProbe::Order::kEightStreams);
    const double peak = bf16_flops(team);
    const double start = seconds_now();
    kernel_case.run(team);
    const double taken = seconds_now() - start;
    if (switches() != before && seconds_now() - begin < 3 * kLimit) continue;
    seconds.push_back(taken);
    one.push_back(one_stream);
    eight.push_back(eight_streams);
    flops.push_back(peak);
  }
  if (seconds.empty()) return {};
  return {median(seconds), median(one), median(eight), median(flops)};
}

void print(const std::string& op, const KernelCase& kernel_case, const MemoryTiming& timing,
           bool json) {
  const double rate = kernel_case.bytes() / timing.seconds;
  const double flops = kernel_case.flops() / timing.seconds;
  const char* form =
      json ? "{\"op\":\"%s\",\"case\":\"%s\",\"us_median\":%.2f,\"gbytes_per_s\":%.2f,"
             "\"gflops\":%.2f,\"probe_gbytes_per_s\":%.2f,\"streams_gbytes_per_s\":%.2f,"
             "\"peak_gflops\":%.1f,\"of_probe\":%.3f,\"of_streams\":%.3f,\"of_peak\":%.3f}\n"
           : "%-8s %-60s %9.1f us %6.2f GB/s %7.1f GFLOP/s  (probe %.1f, streams %.1f GB/s, peak "
             "%.0f GFLOP/s): %.2f of probe, %.2f of streams, %.2f of peak\n";
  std::printf(form, op.c_str(), kernel_case.name().c_str(), timing.seconds * 1e6, rate * 1e-9,
              flops * 1e-9, timing.probe * 1e-9, timing.streams * 1e-9, timing.peak * 1e-9,
              rate / timing.probe, rate / timing.streams, flops / timing.peak);
  std::fflush(stdout);
}

/// Least time that the ceilings allow: all bytes once, all operations. What fits the second-level
/// caches is held against their speed.
double roof_seconds(const KernelCase& kernel_case, const Ceilings& ceilings, int32_t threads) {
  const bool cached = kernel_case.bytes() <= threads * double(int64_t{1} << 20);
  const double bandwidth = cached ? ceilings.cache_bytes_per_s : ceilings.memory_bytes_per_s;
  const double peak =
      kernel_case.dtype() == DType::kBFloat16 ? ceilings.bf16_flops : ceilings.f32_flops;
  return std::max(kernel_case.bytes() / bandwidth, kernel_case.flops() / peak);
}

void print(const std::string& op, const KernelCase& kernel_case, const Timing& timing, double roof,
           bool json) {
  // Rates of the best run, as the ceilings are the best of many: on a shared host the median says
  // more about the neighbours.
  const double gbytes = kernel_case.bytes() / timing.best * 1e-9;
  const double gflops = kernel_case.flops() / timing.best * 1e-9;
  const char* form =
      json ? "{\"op\":\"%s\",\"case\":\"%s\",\"us_best\":%.2f,\"us_median\":%.2f,\"us_p90\":%.2f,"
             "\"gbytes_per_s\":%.2f,\"gflops\":%.2f,\"of_roof\":%.3f}\n"
           : "%-20s %-70s %10.1f us (median %.1f, p90 %.1f) %8.1f GB/s %8.1f GFLOP/s  %.2f of "
             "roof\n";
  std::printf(form, op.c_str(), kernel_case.name().c_str(), timing.best * 1e6, timing.median * 1e6,
              timing.p90 * 1e6, gbytes, gflops, roof / timing.best);
  std::fflush(stdout);
}

/// Whether a few awkward cases hold; prints the first that doesn't.
bool check(const OpCases& op) {
  constexpr uint64_t kSeeds = 5;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    CaseRandom random(seed);
    const CasePtr kernel_case = op.awkward(random);
    const std::string fault = check_case(*kernel_case);
    if (fault.empty()) continue;
    std::fprintf(stderr, "%s %s (seed %llu): %s\n", op.op.c_str(), kernel_case->name().c_str(),
                 static_cast<unsigned long long>(seed), fault.c_str());
    return false;
  }
  return true;
}

void print_ceilings(const Ceilings& c, int32_t threads, bool json) {
  const char* form =
      json ? "{\"isa\":\"%s\",\"threads\":%d,\"memory_gbytes_per_s\":%.2f,"
             "\"one_thread_gbytes_per_s\":%.2f,\"streams_gbytes_per_s\":%.2f,"
             "\"cache_gbytes_per_s\":%.2f,\"f32_gflops\":%.1f,\"bf16_gflops\":%.1f,"
             "\"region_us\":%.3f}\n"
           : "%s, %d threads: memory %.1f GB/s (one thread %.1f, eight streams %.1f), second-level "
             "caches %.1f GB/s, float32 %.0f GFLOP/s, bfloat16 %.0f GFLOP/s, a parallel region "
             "%.2f us\n";
  std::printf(form, isa_name(isa()), threads, c.memory_bytes_per_s * 1e-9,
              c.one_thread_bytes_per_s * 1e-9, c.streams_bytes_per_s * 1e-9,
              c.cache_bytes_per_s * 1e-9, c.f32_flops * 1e-9, c.bf16_flops * 1e-9,
              c.region_s * 1e6);
}

int bench(const Options& options) {
  ThreadTeam team(options.threads);
  const Ceilings ceilings = measure_ceilings(team, options.brief);
  print_ceilings(ceilings, team.num_threads(), options.json);
  std::unique_ptr<GemvProbe> probe;
  if (options.memory) probe = std::make_unique<GemvProbe>(team, int64_t{1} << 30);
  bool sound = true, any = false;
  for (const OpCases& op : all_cases()) {
    if (op.op.compare(0, options.op.size(), options.op) != 0) continue;
    any = true;
    if (options.brief) sound = check(op) && sound;
    for (const auto& make : options.memory ? op.memory : op.bench) {
      CaseRandom random(1);
      const CasePtr kernel_case = make(random);
      if (options.memory) {
        print(op.op, *kernel_case, time_from_memory(*kernel_case, *probe, team), options.json);
      } else {
        const Timing timing = time_case(*kernel_case, team, options.brief);
        print(op.op, *kernel_case, timing, roof_seconds(*kernel_case, ceilings, team.num_threads()),
              options.json);
      }
      if (options.brief) break;
    }
  }
  if (!any) {
    std::fprintf(stderr, "--op: no operation begins with '%s'\n", options.op.c_str());
    return 2;
  }
  return sound ? 0 : 1;
}

/// Fills `options`; false (after saying why) on a wrong command line.
bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const bool has_value = i + 1 < argc;
    if (std::strcmp(argv[i], "--short") == 0) {
      options.brief = true;
    } else if (std::strcmp(argv[i], "--memory") == 0) {
      options.memory = true;
    } else if (std::strcmp(argv[i], "--json") == 0) {
      options.json = true;
    } else if (std::strcmp(argv[i], "--op") == 0 && has_value) {
      options.op = argv[++i];
    } else if (std::strcmp(argv[i], "--threads") == 0 && has_value) {
      char* end = nullptr;
      const long threads = std::strtol(argv[++i], &end, 10);
      if (*end != '\0' || threads < 0 || threads > 1024) {
        std::fprintf(stderr, "--threads: '%s' is not a number from 0 to 1024\n", argv[i]);
        return false;
      }
      options.threads = static_cast<int32_t>(threads);
    } else {
      std::fprintf(stderr, "unknown or incomplete option '%s'\n%s", argv[i], kUsage);
      return false;
    }
  }
  return true;
}

}  // namespace
}  // namespace mole::kernels

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], "--help") == 0) {
    std::fputs(mole::kernels::kUsage, stdout);
    return 0;
  }
  mole::kernels::Options options;
  if (!mole::kernels::parse(argc, argv, options)) return 2;
  return mole::kernels::bench(options);
}
