// Per instruction set: one row of the gradient.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mole::kernels {
namespace avx2 {
/// to[i] += from[i], i < count.
void add_row(const void* from, DType dtype, float* to, int64_t count);
}  // namespace avx2
namespace avx512 {
void add_row(const void* from, DType dtype, float* to, int64_t count);
}  // namespace avx512
}  // namespace mole::kernels
