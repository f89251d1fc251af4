// Random values at the speed of a disk: a value depends on (seed, tensor's name, index) only, so
// the same checkpoint comes out whatever the number of threads and shards.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/dtype.h"

namespace mole::load_tests {

/// The key of a tensor's stream of values.
uint64_t stream_key(uint64_t seed, std::string_view name);

/// Elements [first, first + count) of the stream, near normal (the sum of four uniform 16-bit
/// numbers: mean 0, the given deviation, tails cut at 3.46 deviations), to `out` in `dtype`
/// (float32 or bfloat16). Source: the mixing function of Steele, Lea and Flood, "Fast splittable
/// pseudorandom number generators" (OOPSLA 2014), at a counter. Pure; any threads.
void fill_normal(uint64_t key, int64_t first, int64_t count, double deviation, DType dtype,
                 void* out);

}  // namespace mole::load_tests
