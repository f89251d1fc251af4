#include "model/kv_cache.h"

#include <cstdlib>
#include <cstring>

#include "base/check.h"

namespace mole::model {

namespace {
constexpr int64_t kAlignment = 64;
}

void KvCache::Free::operator()(std::byte* data) const { std::free(data); }

KvCache::KvCache(const KvCacheShape& shape) : shape_(shape) {
  MOLE_CHECK_GT(shape.num_layers, 0);
  MOLE_CHECK_GT(shape.num_blocks, 0);
  MOLE_CHECK_GT(shape.entry_elements, 0);
  // A block is kBlockTokens entries of at least two bytes, so every block starts on a cache line.
  layer_bytes_ = shape.block_bytes() * shape.num_blocks;
  MOLE_CHECK_EQ(layer_bytes_ % kAlignment, 0);
  const size_t bytes = static_cast<size_t>(shape.total_bytes());
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kAlignment, bytes));
  MOLE_CHECK(data != nullptr);
  std::memset(data, 0, bytes);
  data_.reset(data);
}

}  // namespace mole::model
