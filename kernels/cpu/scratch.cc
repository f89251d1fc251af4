#include "kernels/cpu/scratch.h"

#include <memory>
#include <new>

namespace mole::kernels {
namespace {

constexpr std::align_val_t kAlignment{64};

struct Free {
  void operator()(std::byte* data) const { ::operator delete[](data, kAlignment); }
};

struct Block {
  std::unique_ptr<std::byte[], Free> data;
  int64_t bytes = 0;
};

}  // namespace

std::byte* thread_scratch(int64_t bytes, ScratchSlot slot) {
  thread_local Block blocks[2];
  Block& block = blocks[static_cast<int>(slot)];
  if (bytes > block.bytes) {
    block.data.reset();
    const auto size = static_cast<std::size_t>(bytes);
    block.data.reset(static_cast<std::byte*>(::operator new[](size, kAlignment)));
    block.bytes = bytes;
  }
  return block.data.get();
}

}  // namespace mole::kernels
