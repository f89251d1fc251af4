// "Measured bandwidth" of this project: packed bfloat16 weights in huge pages, read once by a
// product with one vector and prefetched by software, all threads at once. A plain read of memory
// reports 15 to 40 % less on the machines we know, and would flatter what is held against it. Where
// each thread reads eight places side by side instead of one, some machines give 40 % more: the
// best that we know how to get from memory.
//
// A probe keeps its memory, so that a short read of it can stand before and after every run that it
// is compared with: the bandwidth of shared hosts changes several-fold within minutes.
// Thread: the team's caller.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/huge_pages.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

class GemvProbe {
 public:
  /// Takes and fills `bytes` of memory (rounded up to 512 KiB); several times the last-level cache
  /// if memory is to be measured.
  GemvProbe(ThreadTeam& team, int64_t bytes);
  ~GemvProbe();
  GemvProbe(const GemvProbe&) = delete;
  GemvProbe& operator=(const GemvProbe&) = delete;

  int64_t bytes() const { return blocks_ * kBlockBytes; }
  enum class Order { kOneStream, kEightStreams };
  /// Bytes per second of one read of the next `bytes` (rounded up to 512 KiB, at most all), with
  /// the team's threads. Successive reads walk through the memory, so that none finds its weights
  /// cached.
  double rate(ThreadTeam& team, int64_t bytes, Order order = Order::kOneStream);

  static constexpr int64_t kDepth = 2048;  // of the vector
  static constexpr int64_t kStreams = 8;
  static constexpr int64_t kBlockBytes = kDepth * 16 * kStreams * 2;

 private:
  int64_t blocks_, next_ = 0;
  Pages weights_;
};

// One block, in order (four times 32 outputs, [kDepth / 2][32][2]) or as eight streams (eight times
// 16 outputs, [kDepth / 2][16][2], side by side); y[16]: of all ones, kDepth. What is read ahead
// may lie past the block.
namespace avx2 {
void probe_gemv(const void* block, const uint16_t* x, float* y);
}  // namespace avx2
namespace avx512 {
void probe_gemv(const void* block, const uint16_t* x, float* y);
}  // namespace avx512
/// With VDPBF16PS: cheaper, and not in our arithmetic.
void probe_gemv_bf16(const void* block, const uint16_t* x, float* y);
void probe_gemv_streams_bf16(const void* block, const uint16_t* x, float* y);
/// Whether this machine has VDPBF16PS.
bool probe_has_bf16();

}  // namespace mole::kernels
