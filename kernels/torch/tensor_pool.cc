#include "kernels/torch/tensor_pool.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <sys/mman.h>

#include <algorithm>

#include "base/check.h"

namespace mole::kernels {

namespace {

// Blocks begin on pages of their own, so that a huge page is never shared with what comes and goes.
constexpr int64_t kPage = 4096;
constexpr int64_t kHugePage = int64_t{2} << 20;

thread_local TensorPool* open_pool = nullptr;

/// Zeroed memory that is resident only where it was touched.
at::Tensor map_bytes(int64_t capacity) {
  const auto bytes = static_cast<size_t>(capacity);
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MOLE_CHECK(data != MAP_FAILED);
  // Advice only: small steps then touch more memory at once, large ones miss fewer translations.
  if (capacity >= 2 * kHugePage) madvise(data, bytes, MADV_HUGEPAGE);
  return at::from_blob(
      data, {capacity}, [bytes](void* mapped) { munmap(mapped, bytes); },
      at::TensorOptions().dtype(at::kByte));
}

}  // namespace

TensorPool::Block& TensorPool::best_fit(int64_t bytes, int64_t new_capacity) {
  Block* best = nullptr;
  Block* largest = nullptr;  // of the free ones that are too small
  for (Block& block : blocks_) {
    if (block.tensor.use_count() > 1) continue;
    if (block.capacity < bytes) {
      if (largest == nullptr || block.capacity > largest->capacity) largest = &block;
    } else if (best == nullptr || block.capacity < best->capacity) {
      best = &block;
    }
  }
  if (best != nullptr) return *best;
  int64_t capacity = new_capacity;
  const bool unbounded = new_capacity == bytes;  // more than max_rows: it may grow step by step
  if (unbounded && largest != nullptr) capacity = std::max(bytes, largest->capacity * 3 / 2);
  capacity = (capacity + kPage - 1) / kPage * kPage;
  if (!unbounded || largest == nullptr) return blocks_.emplace_back(map_bytes(capacity), capacity);
  largest->tensor.reset();  // gives its memory back before more is taken
  *largest = {map_bytes(capacity), capacity};
  return *largest;
}

at::Tensor TensorPool::take(at::IntArrayRef shape, at::ScalarType type) {
  int64_t bytes = static_cast<int64_t>(at::elementSize(type));
  for (const int64_t extent : shape) bytes *= extent;
  int64_t capacity = bytes;
  if (!shape.empty() && shape[0] > 0 && shape[0] < max_rows_) {
    capacity = bytes / shape[0] * max_rows_;
  }
  const at::Tensor& tensor = best_fit(bytes, capacity).tensor;
  at::TensorImpl* impl = tensor.unsafeGetTensorImpl();
  impl->set_storage_and_dtype(impl->storage(), c10::scalarTypeToTypeMeta(type));
  impl->set_sizes_contiguous(shape);
  return tensor;
}

int64_t TensorPool::bytes() const {
  int64_t sum = 0;
  for (const Block& block : blocks_) sum += block.capacity;
  return sum;
}

TensorPool* TensorPool::current() { return open_pool; }

TensorPool::Scope::Scope(TensorPool* pool) : outer_(open_pool) { open_pool = pool; }
TensorPool::Scope::~Scope() { open_pool = outer_; }

}  // namespace mole::kernels
