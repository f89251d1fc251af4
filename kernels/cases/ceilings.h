// What this machine can do at most, measured in the same run as the kernels: the hosts are shared,
// and yesterday's number is another machine's.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

struct Ceilings {
  double memory_bytes_per_s = 0;      // measure_gemv_bandwidth
  double one_thread_bytes_per_s = 0;  // the same, one thread
  double streams_bytes_per_s = 0;     // all threads, eight places side by side in each
  double cache_bytes_per_s = 0;       // read of 512 KiB a thread, again and again
  double region_s = 0;                // a parallel region of nothing, seconds
  double f32_flops = 0;               // fused multiply-adds in registers
  double bf16_flops = 0;              // AMX in registers; without AMX as f32
};
/// Best of several tries, of about 2 s in all; `brief` reads memory that a cache may hold.
Ceilings measure_ceilings(ThreadTeam& team, bool brief);

/// Bytes per second of the prefetched product of one vector with packed bfloat16 weights of `bytes`
/// (GemvProbe: for repeated short measurements), read once by all threads of the team; the best of
/// five. Takes that much memory for the call. 2 GiB and more measure memory on most machines.
double measure_gemv_bandwidth(ThreadTeam& team, int64_t bytes);

/// Monotonic seconds.
double seconds_now();
/// The upper one of two in the middle. Not of nothing.
double median(std::vector<double> values);

namespace avx2 {
float probe_read(const float* data, int64_t count);
float probe_fma(int64_t rounds);
/// exp16 of every element, for its test.
void probe_exp(const float* x, float* y, int64_t count);
}  // namespace avx2
namespace avx512 {
float probe_read(const float* data, int64_t count);
float probe_fma(int64_t rounds);
void probe_exp(const float* x, float* y, int64_t count);
}  // namespace avx512
void probe_amx(int64_t rounds);
inline constexpr double kFlopsPerFmaRound = 2.0 * 16 * 12;
inline constexpr double kFlopsPerAmxRound = 2.0 * 16 * 16 * 32 * 4;

}  // namespace mole::kernels
