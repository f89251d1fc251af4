#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/pack_shapes.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

// Weights are read from end to end every step: huge pages save the walks through page tables.
constexpr int64_t kHugePage = int64_t{2} << 20;

std::byte* allocate(int64_t bytes) {
  const int64_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const int64_t size = ceil_div(std::max<int64_t>(bytes, 1), 64) * 64;
  void* data = nullptr;
  const int failed =
      ::posix_memalign(&data, static_cast<std::size_t>(alignment), static_cast<std::size_t>(size));
  MOLE_CHECK(failed == 0);
  if (alignment == kHugePage) {
    // Advice only; where the system refuses it small pages do. The last, partly used page is left
    // out: huge, it would take memory that no plan knows of.
    (void)madvise(data, static_cast<std::size_t>(size / kHugePage * kHugePage), MADV_HUGEPAGE);
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

void PackedWeight::Free::operator()(std::byte* data) const { std::free(data); }

std::byte* PackedWeight::reshape(DType dtype, int64_t n, int64_t k) {
  MOLE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  MOLE_CHECK_GE(n, 0);
  MOLE_CHECK_GE(k, 0);
  n_ = n;
  k_ = k;
  dtype_ = dtype;
  format_ = WeightFormat::kPlain;
  return reserve(ceil_div(n, kPanel) * panel_elements(dtype, k) * dtype_bytes(dtype));
}

std::byte* PackedWeight::reshape(WeightFormat format, int64_t n, int64_t k) {
  MOLE_CHECK(format != WeightFormat::kPlain && can_quantize(format, k));
  MOLE_CHECK_GE(n, 0);
  MOLE_CHECK_GE(k, 0);
  n_ = n;
  k_ = k;
  dtype_ = DType::kBFloat16;
  format_ = format;
  return reserve(ceil_div(n, kPanel) * quantized_panel_bytes(format, k));
}

std::byte* PackedWeight::reserve(int64_t bytes) {
  bytes_ = bytes;
  if (bytes_ > capacity_ || data_ == nullptr) {
    data_.reset();
    data_.reset(allocate(bytes_));
    capacity_ = bytes_;
  }
  return data_.get();
}

void PackedWeight::pack(const void* weight, DType dtype, int64_t n, int64_t k, int64_t stride,
                        bool transposed, ThreadTeam& team) {
  const PackTask task{{weight, dtype, n, k, stride, transposed}, this};
  pack_many({&task, 1}, team);
}

void pack_many(std::span<const PackTask> tasks, ThreadTeam& team) {
  int64_t total = 0;
  for (const PackTask& task : tasks) {
    const PackSource& source = task.source;
    MOLE_CHECK_GE(source.stride, source.transposed ? source.n : source.k);
    task.packed->reshape(source.dtype, source.n, source.k);
    total += ceil_div(source.n, kPanel);
  }
  if (PackShapesOnly::active()) return;
  const auto pack_panels = isa() == Isa::kAvx2 ? avx2::pack_panels : avx512::pack_panels;
  auto part = [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // number of the task's first panel
    for (const PackTask& task : tasks) {
      const int64_t panels = ceil_div(task.source.n, kPanel);
      const int64_t from = std::max(begin - first, int64_t{0});
      const int64_t to = std::min(end - first, panels);
      if (from < to) pack_panels(task.source, task.packed->data_.get(), from, to);
      first += panels;
    }
  };
  team.parallel_for(total, 1, part);
}

}  // namespace mole::kernels
