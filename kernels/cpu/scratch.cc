#include "kernels/cpu/scratch.h"

#include "kernels/cpu/huge_pages.h"

namespace mole::kernels {
namespace {

struct Block {
  Pages data;
  int64_t bytes = 0;
};

}  // namespace

std::byte* thread_scratch(int64_t bytes, ScratchSlot slot) {
  thread_local Block blocks[2];
  Block& block = blocks[static_cast<int>(slot)];
  if (bytes > block.bytes) {
    block.data.reset();
    block.data = allocate_pages(bytes);
    block.bytes = bytes;
  }
  return block.data.get();
}

}  // namespace mole::kernels
