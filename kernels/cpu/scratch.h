// Working memory of a kernel's thread: blocks that only grow, so that a warm step allocates
// nothing. A kernel asks once in its range function; the memory is its own until that function
// returns.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mole::kernels {

/// Whose memory: an operation's own, and that of `linear`, which other operations call in their
/// range functions.
enum class ScratchSlot { kOperation, kLinear };

/// At least `bytes`, aligned to 64, contents unspecified. A second call in the same thread and slot
/// may return the same memory.
std::byte* thread_scratch(int64_t bytes, ScratchSlot slot = ScratchSlot::kOperation);

}  // namespace mole::kernels
