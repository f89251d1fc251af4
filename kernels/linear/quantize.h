// Weights as codes and scales, row by row as they lie in files, and their way into panels. Whether
// a weight is quantised while it is loaded or beforehand, it goes this one way and gives the same
// bits.
//
// Codes, from a row (kInt8), from 128 k of a row (the other integers) or from a block of 128 rows
// by 128 k (kFp8), `most` being the largest magnitude:
//  int8: scale = most / 127, code = x * (127 / most) rounded to nearest even;
//  int4: scale = extreme / -8, extreme being the first value of largest magnitude with its sign,
//        code = x * (1 / scale) rounded to nearest even, at most 7; stored + 8, the even k in a
//        byte's low half, 8 (zero) after the last k of an odd row;
//  fp8:  scale = most / 448, code = x * (448 / most) rounded to nearest even in e4m3.
// A scale is a float32; where `most` is below 2^-100 codes and scale are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/weight_format.h"

namespace mole::kernels {

/// Codes [n, code_row_bytes(k)] and scales [scale_rows(n), scale_columns(k)], contiguous; neither
/// need be aligned.
struct QuantizedMatrix {
  WeightFormat format = WeightFormat::kInt8;
  int64_t n = 0, k = 0;
  const std::byte* codes = nullptr;
  const std::byte* scales = nullptr;  // float32
};

/// Whether a matrix with rows of `k` can have this format.
constexpr bool can_quantize(WeightFormat format, int64_t k) {
  return format != WeightFormat::kInt8 || k <= kInt8MaxK;
}

/// weight [n, k] bfloat16, contiguous -> codes and scales as above. False if a value is not finite;
/// codes and scales are then unspecified. Thread: the team's caller.
bool quantize(WeightFormat format, const BFloat16* weight, int64_t n, int64_t k, std::byte* codes,
              float* scales, ThreadTeam& team);

/// What is wrong with codes or scales from a file, or "": e4m3's NaN, an int8 code of -128, a scale
/// that is not finite. Thread: the team's caller.
std::string quantized_fault(const QuantizedMatrix& matrix, ThreadTeam& team);

/// y [rows, n] in float64: x [rows, k] (as bfloat16, contiguous) times what codes and scales stand
/// for; where activations are rounded to int8, of the rounded ones. `magnitudes`, of the same
/// shape, or null: the sum of the terms' magnitudes. What every implementation is held against.
void linear_quantized_ref(const BFloat16* x, const QuantizedMatrix& weight, int64_t rows, double* y,
                          double* magnitudes);

/// Stacks `parts` (same format and k) along n and packs them. Thread: the team's caller.
void pack_quantized(std::span<const QuantizedMatrix> parts, PackedWeight& packed, ThreadTeam& team);

}  // namespace mole::kernels
