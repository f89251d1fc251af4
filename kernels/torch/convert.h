// Copies between element types and layouts, vectorised for AVX2, which every machine of ours has.
// Torch-free; one thread's part of the work each.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace mole::kernels {

/// y[0 … count) = x[0 … count), rounded to nearest even where the type narrows.
void convert_row(const float* x, BFloat16* y, int64_t count);
void convert_row(const BFloat16* x, float* y, int64_t count);

/// out[c * out_stride + r] = x[r * x_stride + c] for r in [0, rows), c in [0, columns). 16-bit
/// elements.
void transpose_tile(const uint16_t* x, int64_t x_stride, int64_t rows, int64_t columns,
                    uint16_t* out, int64_t out_stride);
/// The same for 32-bit elements.
void transpose_tile(const float* x, int64_t x_stride, int64_t rows, int64_t columns, float* out,
                    int64_t out_stride);

}  // namespace mole::kernels
