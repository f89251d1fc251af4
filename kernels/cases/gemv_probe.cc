#include "kernels/cases/gemv_probe.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "base/check.h"
#include "kernels/cases/ceilings.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr uint16_t kOne = 0x3f80;  // bfloat16
constexpr int kTries = 5;

int64_t blocks_of(int64_t bytes) {
  return std::max<int64_t>(1, (bytes + GemvProbe::kBlockBytes - 1) / GemvProbe::kBlockBytes);
}

}  // namespace

void GemvProbe::Free::operator()(std::byte* data) const { std::free(data); }

GemvProbe::GemvProbe(ThreadTeam& team, int64_t bytes) : blocks_(blocks_of(bytes)) {
  const auto size = static_cast<std::size_t>(blocks_ * kBlockBytes);
  const std::size_t rounded = (size + kHugePage - 1) / kHugePage * kHugePage;
  weights_.reset(static_cast<std::byte*>(std::aligned_alloc(kHugePage, rounded)));
  MOLE_CHECK(weights_ != nullptr);
  (void)madvise(weights_.get(), rounded, MADV_HUGEPAGE);  // advice: without it, smaller pages
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
