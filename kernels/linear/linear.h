// y = x W^T for a weight that was packed once: the workhorse of every layer.
//
// Numerics, fixed per dtype and independent of rows, threads and instruction set (promise 1):
//  - float32: one chain of fused multiply-adds over k = 0, 1, … K-1, from zero.
//  - bfloat16: the arithmetic of the AMX instruction TDPBF16PS, on every machine: for each block of
//  32
//    consecutive k two float32 chains from zero, one over the even and one over the odd k, their
//    sum added to the accumulator; blocks in order; K padded with zeros; denormals flushed. AVX-512
//    and AVX2 compute the same bits with plain FMAs (products of bfloat16 are exact in float32), so
//    a path may be chosen by speed alone. Source: Intel SDM, TDPBF16PS.
// The result is rounded once, to the output's type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/linear/weight_format.h"

namespace mole::kernels {

/// A [N, K] matrix in the kernels' order: tiles of 16 rows (outputs) by 32 k for bfloat16 (each
/// tile [16 pairs of k][16 n][2], 1 KiB, the B operand of AMX), panels of 16 rows by K for float32
/// ([K][16]). Tiles of one panel of 16 outputs are consecutive. N and K are padded with zeros.
class PackedWeight {
 public:
  PackedWeight() = default;
  /// Packs `weight` (dtype float32 or bfloat16). Not transposed: element (n, k) is
  /// weight[n * stride + k]; transposed: weight[k * stride + n]. May be called again on the same
  /// object and then reuses its memory if the shape fits.
  void pack(const void* weight, DType dtype, int64_t n, int64_t k, int64_t stride, bool transposed,
            ThreadTeam& team);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  /// Of the other factor; bfloat16 for every quantised format.
  DType dtype() const { return dtype_; }
  /// Quantised formats are packed by pack_quantized (kernels/linear/quantize.h).
  WeightFormat format() const { return format_; }
  const std::byte* data() const { return data_.get(); }
  /// Takes the shape and memory for it, contents unspecified: for kernels that pack themselves.
  std::byte* reshape(DType dtype, int64_t n, int64_t k);
  std::byte* reshape(WeightFormat format, int64_t n, int64_t k);  // quantised formats
  int64_t bytes() const { return bytes_; }

 private:
  friend void pack_many(std::span<const struct PackTask> tasks, ThreadTeam& team);
  struct Free {
    void operator()(std::byte* data) const;
  };
  std::byte* reserve(int64_t bytes);
  int64_t n_ = 0, k_ = 0;
  DType dtype_ = DType::kFloat32;
  WeightFormat format_ = WeightFormat::kPlain;
  int64_t bytes_ = 0;
  int64_t capacity_ = 0;
  std::unique_ptr<std::byte[], Free> data_;
};

struct LinearArgs {
  const void* x = nullptr;  // [rows, K], dtype of the weight, row stride x_stride
  int64_t rows = 0;
  int64_t x_stride = 0;                  // elements
  const PackedWeight* weight = nullptr;  // [N, K]
  void* y = nullptr;                     // [rows, N], row stride y_stride; must not overlap x
  DType y_dtype = DType::kFloat32;       // float32 or bfloat16
  int64_t y_stride = 0;                  // elements
  bool accumulate = false;               // float32 y only: y += x W^T, added after the whole sum
  /// x is stored the other way round: element (row, k) is x[k * x_stride + row]. With dY as x and X
  /// packed transposed this is a weight's gradient, dW = dY^T X.
  bool x_transposed = false;
  /// Row i of x's memory (k, if transposed) is its row x_rows[i] (gather); null = i. Row r of the
  /// result goes to row y_rows[r] (scatter, distinct).
  const int32_t* x_rows = nullptr;
  const int32_t* y_rows = nullptr;
  // For the kernels' own use, when they compute a part of a product (linear_impl.h):
  const BFloat16* x_tiles = nullptr;  // x as pack_all_rows left it; null = as it is
  int64_t y_column = 0;               // the product's column that y's first one stands for
};

/// Thread: the team's caller. Errors: none; a wrong argument is a bug and stops the process.
/// Cost: 2*rows*N*K flop, reads the weight once for every 256 rows or so.
void linear(const LinearArgs& args, ThreadTeam& team);

/// The same in float64 without packing: what every implementation is held against.
/// x [rows, K], weight [N, K], y [rows, N], all contiguous doubles.
void linear_ref(const double* x, const double* weight, double* y, int64_t rows, int64_t n,
                int64_t k);

}  // namespace mole::kernels
