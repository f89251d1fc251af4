// What the tensor adapters share: checks at the border to the pointer kernels, and the copies
// between types and layouts that the kernels ask for, split over the team.
#pragma once

#include <ATen/core/Tensor.h>

#include "base/dtype.h"

namespace mole::kernels {

/// float32 and bfloat16 only; anything else is a bug and stops the process.
DType dtype_of(const at::Tensor& tensor);
at::ScalarType scalar_type(DType dtype);

/// Stops the process, naming `name`, what was expected and what came, unless `tensor` has this
/// shape
/// (-1 = any extent), this type, and rows that are contiguous (stride 1 in the last dimension).
void check_tensor(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, DType dtype);

/// Uninitialised, contiguous, without gradient. From the pool whose scope is open, if one is
/// (kernels/torch/tensor_pool.h).
at::Tensor empty(at::IntArrayRef shape, DType dtype);
at::Tensor empty_int32(at::IntArrayRef shape);
at::Tensor zeros(at::IntArrayRef shape, DType dtype);

/// `x` as a plain value: what backward nodes keep and kernels read. Without a gradient to leave
/// behind that is `x` itself.
inline at::Tensor plain_value(const at::Tensor& x) {
  return x.defined() && x.requires_grad() ? x.detach() : x;
}

/// A contiguous copy in `dtype` (rounded to nearest even), or `x` itself if it already is that.
/// Shapes: x [rows, columns], row stride free.
at::Tensor cast(const at::Tensor& x, DType dtype);

/// out [rows, columns] <- x [rows, columns], both with free row strides, converted to out's type.
void copy_rows(const at::Tensor& x, const at::Tensor& out);

/// x [rows, columns], row stride free -> contiguous [columns, rows].
at::Tensor transposed(const at::Tensor& x);

/// The first byte of element (row, column) of a matrix with free row stride.
inline std::byte* element(const at::Tensor& x, int64_t row, int64_t column) {
  return static_cast<std::byte*>(x.data_ptr()) +
         (row * x.stride(0) + column) * static_cast<int64_t>(x.element_size());
}

}  // namespace mole::kernels
