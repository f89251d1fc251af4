#include "kernels/cases/gemv_probe.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/cases/ceilings.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

constexpr uint16_t kOne = 0x3f80;  // bfloat16
constexpr int kTries = 5;

int64_t blocks_of(int64_t bytes) {
  return std::max<int64_t>(1, (bytes + GemvProbe::kBlockBytes - 1) / GemvProbe::kBlockBytes);
}

}  // namespace

GemvProbe::GemvProbe(ThreadTeam& team, int64_t bytes) : blocks_(blocks_of(bytes)) {
  weights_ = allocate_pages(blocks_ * kBlockBytes);
  auto fill = [&](int64_t begin, int64_t end) {
    auto* data = reinterpret_cast<uint16_t*>(weights_.get());
    std::fill(data + begin * kBlockBytes / 2, data + end * kBlockBytes / 2, kOne);
  };
  team.parallel_for(blocks_, 1, fill);
}

GemvProbe::~GemvProbe() = default;

double GemvProbe::rate(ThreadTeam& team, int64_t bytes, Order order) {
  const int64_t count = std::min(blocks_, blocks_of(bytes));
  if (next_ + count > blocks_) next_ = 0;
  const bool streams = order == Order::kEightStreams && probe_has_bf16();
  const auto gemv = isa() == Isa::kAvx2 ? avx2::probe_gemv
                    : streams           ? probe_gemv_streams_bf16
                    : probe_has_bf16()  ? probe_gemv_bf16
                                        : avx512::probe_gemv;
  auto part = [&](int64_t begin, int64_t end) {
    alignas(64) uint16_t x[kDepth];
    alignas(64) float y[16];
    std::fill(x, x + kDepth, kOne);
    for (int64_t block = begin; block < end; ++block) {
      gemv(weights_.get() + (next_ + block) * kBlockBytes, x, y);
      // Also keeps the compiler from dropping the work.
      MOLE_CHECK_EQ(y[15], static_cast<float>(kDepth));
    }
  };
  const double start = seconds_now();
  team.parallel_for(count, 1, part);
  const double seconds = seconds_now() - start;
  next_ += count;
  return static_cast<double>(count * kBlockBytes) / seconds;
}

double measure_gemv_bandwidth(ThreadTeam& team, int64_t bytes) {
  GemvProbe probe(team, bytes);
  double best = 0;
  for (int turn = 0; turn < kTries; ++turn) best = std::max(best, probe.rate(team, bytes));
  return best;
}

}  // namespace mole::kernels
