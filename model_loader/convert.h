// Conversions between the element types of checkpoints and the two types that models compute with.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "model_loader/tensor_view.h"

namespace mole::loader {

inline constexpr int64_t kFp8Block = 128;  // rows and columns that share one scale

/// IEEE binary16, exactly.
float float16_to_float(uint16_t bits);
/// E4M3FN, exactly: bias 7, no infinities, 0x7f and 0xff are NaN, largest 448, smallest 2^-9.
float float8_e4m3_to_float(uint8_t bits);

/// Whether convert() takes tensors of this type.
bool is_floating(DType dtype);

/// Converts `count` elements at `from` (any alignment) to float32 or bfloat16 at `out`. bfloat16 is
/// rounded once, to nearest even; nothing else rounds. `from_dtype` is floating, `out_dtype` one of
/// the two.
void convert(DType from_dtype, const std::byte* from, int64_t count, DType out_dtype, void* out);

/// Converts an FP8 matrix [rows, columns] with `scales` float32 [ceil(rows/128),
/// ceil(columns/128)]: out = value * scale in float32, then rounded to bfloat16 if asked for.
void convert_fp8_blocks(const TensorView& matrix, const TensorView& scales, DType out_dtype,
                        void* out);

}  // namespace mole::loader
