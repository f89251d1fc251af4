// A matrix of parameters [N, K] and what the kernels need of it.
//
// Serving: the value is packed at once, and the plain copy is dropped unless it is asked for.
// Training: a float32 master; whatever the forward uses is derived from the master rounded to the
// model's dtype, exactly what export writes, and made again when the version has moved on.
// Thread: the team's caller.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <span>

#include "base/dtype.h"
#include "kernels/linear/linear.h"
#include "kernels/linear/pack_parts.h"
#include "kernels/linear/quantize.h"

namespace mole::kernels {

/// Moved on by whoever changes master values; shared by all weights of a model.
using WeightVersion = std::shared_ptr<const uint64_t>;

struct WeightOptions {
  DType dtype = DType::kFloat32;    // the model's: values are rounded to it
  bool compute_in_float32 = false;  // products in float32 although dtype is bfloat16 (router gates)
  bool keep_plain = false;          // serving: the plain matrix is read too, or instead of the pack
  bool pack = true;                 // false: never multiplied (norms, embedding tables)
};

class Weight {
 public:
  /// Serving. value [n, k] contiguous in options.dtype.
  Weight(at::Tensor value, const WeightOptions& options);
  /// Serving. Codes and scales stacked along n, for products; `plain` [n, k] bfloat16 is kept for
  /// other uses, or undefined.
  Weight(std::span<const QuantizedMatrix> parts, at::Tensor plain);
  /// Serving. Matrices of `dtype` stacked along n, for products only; can_pack_parts of them.
  Weight(std::span<const PlainMatrix> parts, DType dtype);
  /// Training. master [n, k] contiguous float32; its gradient buffer is `grad`, same shape.
  Weight(at::Tensor master, at::Tensor grad, const WeightOptions& options, WeightVersion version);

  int64_t n() const { return n_; }
  int64_t k() const { return k_; }
  /// Of the factors in a product with this weight.
  DType compute_dtype() const { return compute_dtype_; }
  bool trainable() const { return version_ != nullptr; }

  const PackedWeight& packed();    // [N, K] for y = x W^T
  const PackedWeight& packed_t();  // [K, N] for dx = dy W; trainable only
  /// [n, k] rounded to the dtype (widened again if compute_in_float32).
  const at::Tensor& plain();
  /// The float32 gradient [n, k] that backward adds to; trainable only.
  float* grad() const;
  /// Serving, after the last use of `plain`.
  void drop_plain();
  int64_t resident_bytes() const;

 private:
  bool stale(uint64_t made) const { return version_ != nullptr && made != *version_; }

  int64_t n_, k_;
  WeightOptions options_;
  DType compute_dtype_;
  at::Tensor master_, grad_, plain_;
  PackedWeight packed_, packed_t_;
  WeightVersion version_;
  static constexpr uint64_t kNever = ~uint64_t{0};
  uint64_t plain_made_ = kNever, packed_made_ = kNever, packed_t_made_ = kNever;
};

/// dw [N, K] float32 += dy^T x. dy [T, N] and x [T, K] of one dtype, row strides free.
void add_weight_gradient(const at::Tensor& dy, const at::Tensor& x, float* dw);

}  // namespace mole::kernels
