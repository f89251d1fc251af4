#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/linear_impl.h"

namespace mole::kernels {
namespace {

// Weights are read from end to end every step: huge pages save the walks through page tables.
constexpr int64_t kHugePage = int64_t{2} << 20;

std::byte* allocate(int64_t bytes) {
  const int64_t alignment = bytes >= kHugePage ? kHugePage : 64;
  const int64_t size = ceil_div(std::max<int64_t>(bytes, 1), alignment) * alignment;
  void* data =
      std::aligned_alloc(static_cast<std::size_t>(alignment), static_cast<std::size_t>(size));
  MOLE_CHECK(data != nullptr);
  if (alignment == kHugePage) {
    // Advice only; where the system refuses it small pages do.
    (void)madvise(data, static_cast<std::size_t>(size), MADV_HUGEPAGE);
  }
  return static_cast<std::byte*>(data);
}

}  // namespace

void PackedWeight::Free::operator()(std::byte* data) const { std::free(data); }

void PackedWeight::pack(const void* weight, DType dtype, int64_t n, int64_t k, int64_t stride,
                        bool transposed, ThreadTeam& team) {
  MOLE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  MOLE_CHECK_GE(n, 0);
  MOLE_CHECK_GE(k, 0);
  MOLE_CHECK_GE(stride, transposed ? n : k);
  const int64_t panels = ceil_div(n, kPanel);
  n_ = n;
  k_ = k;
  dtype_ = dtype;
  bytes_ = panels * panel_elements(dtype, k) * dtype_bytes(dtype);
  if (bytes_ > capacity_ || data_ == nullptr) {
    data_.reset();
    data_.reset(allocate(bytes_));
    capacity_ = bytes_;
  }
  const PackSource source{weight, dtype, n, k, stride, transposed};
  const auto pack_panels = isa() == Isa::kAvx2 ? avx2::pack_panels : avx512::pack_panels;
  auto part = [&](int64_t begin, int64_t end) { pack_panels(source, data_.get(), begin, end); };
  team.parallel_for(panels, 1, part);
}

}  // namespace mole::kernels
