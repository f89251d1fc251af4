#include "kernels/torch/weight.h"

#include "base/check.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensors.h"

namespace mole::kernels {

Weight::Weight(at::Tensor value, const WeightOptions& options)
    : n_(value.size(0)),
      k_(value.size(1)),
      options_(options),
      compute_dtype_(options.compute_in_float32 ? DType::kFloat32 : options.dtype),
      plain_(cast(value, compute_dtype_)) {
  if (!options.pack) return;
  packed_.pack(plain_.data_ptr(), compute_dtype_, n_, k_, k_, false, team());
  if (!options.keep_plain) plain_.reset();
}

Weight::Weight(std::span<const QuantizedMatrix> parts, at::Tensor plain)
    : n_(0),
      k_(parts[0].k),
      options_{DType::kBFloat16, false, plain.defined(), true},
      compute_dtype_(DType::kBFloat16),
      plain_(std::move(plain)) {
  for (const QuantizedMatrix& part : parts) n_ += part.n;
  pack_quantized(parts, packed_, team());
}

Weight::Weight(std::span<const PlainMatrix> parts, DType dtype)
    : n_(0), k_(parts[0].k), options_{dtype, false, false, true}, compute_dtype_(dtype) {
  for (const PlainMatrix& part : parts) n_ += part.n;
  pack_parts(parts, dtype, packed_, team());
}

Weight::Weight(at::Tensor master, at::Tensor grad, const WeightOptions& options,
               WeightVersion version)
    : n_(master.size(0)),
      k_(master.size(1)),
      options_(options),
      compute_dtype_(options.compute_in_float32 ? DType::kFloat32 : options.dtype),
      master_(std::move(master)),
      grad_(std::move(grad)),
      version_(std::move(version)) {
  check_tensor("weight master", master_, {n_, k_}, DType::kFloat32);
  check_tensor("weight gradient", grad_, {n_, k_}, DType::kFloat32);
}

const at::Tensor& Weight::plain() {
  if (stale(plain_made_)) {
    // Float32 models use the master itself; cast returns it as it is.
    plain_ = cast(cast(master_, options_.dtype), compute_dtype_);
    plain_made_ = *version_;
  }
  MOLE_CHECK(plain_.defined());
  return plain_;
}

const PackedWeight& Weight::packed() {
  if (stale(packed_made_)) {
    packed_.pack(plain().data_ptr(), compute_dtype_, n_, k_, k_, false, team());
    packed_made_ = *version_;
  }
  return packed_;
}

const PackedWeight& Weight::packed_t() {
  MOLE_CHECK(trainable());
  if (stale(packed_t_made_)) {
    packed_t_.pack(plain().data_ptr(), compute_dtype_, k_, n_, k_, true, team());
    packed_t_made_ = *version_;
  }
  return packed_t_;
}

float* Weight::grad() const {
  MOLE_CHECK(trainable());
  return grad_.data_ptr<float>();
}

void Weight::drop_plain() {
  if (!trainable()) plain_.reset();
}

int64_t Weight::resident_bytes() const {
  const int64_t plain = plain_.defined() ? static_cast<int64_t>(plain_.nbytes()) : 0;
  return plain + packed_.bytes() + packed_t_.bytes();
}

void add_weight_gradient(const at::Tensor& dy, const at::Tensor& x, float* dw) {
  const int64_t tokens = dy.size(0), n = dy.size(1), k = x.size(1);
  const DType dtype = dtype_of(x);
  check_tensor("weight gradient dy", dy, {tokens, n}, dtype);
  check_tensor("weight gradient x", x, {tokens, k}, dtype);
  if (tokens == 0) return;
  // Kept between calls: backward asks for packs of a few sizes again and again.
  static PackedWeight x_packed;
  x_packed.pack(x.data_ptr(), dtype, k, tokens, x.stride(0), true, team());
  const at::Tensor dy_t = transposed(dy);
  linear({.x = dy_t.data_ptr(),
          .rows = n,
          .x_stride = tokens,
          .weight = &x_packed,
          .y = dw,
          .y_dtype = DType::kFloat32,
          .y_stride = k,
          .accumulate = true},
         team());
}

}  // namespace mole::kernels
