#include "kernels/cpu/huge_pages.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>

#include "base/check.h"

namespace mole::kernels {

void FreePages::operator()(std::byte* data) const { std::free(data); }

Pages allocate_pages(int64_t bytes) {
  constexpr std::size_t kHugePage = std::size_t{2} << 20;
  const auto wanted = static_cast<std::size_t>(std::max<int64_t>(bytes, 1));
  const std::size_t alignment = wanted >= kHugePage ? kHugePage : 64;
  const std::size_t size = (wanted + alignment - 1) / alignment * alignment;
  Pages data(static_cast<std::byte*>(std::aligned_alloc(alignment, size)));
  MOLE_CHECK(data != nullptr);
  // Advice only; where the system refuses it small pages do.
  if (alignment == kHugePage) (void)madvise(data.get(), size, MADV_HUGEPAGE);
  return data;
}

}  // namespace mole::kernels
