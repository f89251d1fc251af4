// Working memory of a kernel's thread: one block a thread that only grows, so that a warm step
// allocates nothing. A kernel asks once in its range function; the memory is its own until that
// function returns.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mole::kernels {

/// At least `bytes`, aligned to 64, contents unspecified. A second call in the same thread may
/// return the same memory.
std::byte* thread_scratch(int64_t bytes);

}  // namespace mole::kernels
