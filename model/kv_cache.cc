#include "model/kv_cache.h"

#include <sys/mman.h>

#include "base/check.h"

namespace mole::model {

namespace {
constexpr int64_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
}  // namespace

void KvCache::Unmap::operator()(std::byte* /*data*/) const { (void)munmap(map, bytes); }

KvCache::KvCache(const KvCacheShape& shape) : shape_(shape) {
  MOLE_CHECK_GT(shape.num_layers, 0);
  MOLE_CHECK_GT(shape.num_blocks, 0);
  MOLE_CHECK_GT(shape.entry_elements, shape.rope_elements);
  // A block is kBlockTokens entries of at least a byte, so every block starts on a cache line.
  layer_bytes_ = shape.block_bytes() * shape.num_blocks;
  MOLE_CHECK_EQ(layer_bytes_ % kAlignment, 0);
  // Fresh pages of the kernel are zero, and exist when they are first touched. The kernel gives a
  // huge page only where all of it is ours: so there is room to align, and to round up.
  const size_t bytes = static_cast<size_t>(shape.total_bytes()) + 2 * kHugePage;
  void* map = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MOLE_CHECK(map != MAP_FAILED);
  (void)madvise(map, bytes, MADV_HUGEPAGE);  // advice: without it there are more, smaller pages
  const size_t past = reinterpret_cast<uintptr_t>(map) % kHugePage;
  std::byte* data = static_cast<std::byte*>(map) + (past == 0 ? 0 : kHugePage - past);
  data_ = std::unique_ptr<std::byte[], Unmap>(data, Unmap{map, bytes});
}

}  // namespace mole::model
