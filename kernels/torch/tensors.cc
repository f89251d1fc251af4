#include "kernels/torch/tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <sstream>
#include <type_traits>

#include "base/check.h"
#include "kernels/torch/convert.h"
#include "kernels/torch/team.h"
#include "kernels/torch/tensor_pool.h"

namespace mole::kernels {

namespace {

constexpr int64_t kRowGrain = 16;
constexpr int64_t kTile = 32;  // a transposed tile of 32 x 32 stays in the first-level cache

template <typename From, typename To>
void copy_row(const From* x, To* y, int64_t count) {
  if constexpr (std::is_same_v<From, To>) {
    std::memcpy(y, x, static_cast<size_t>(count) * sizeof(To));
  } else {
    convert_row(x, y, count);
  }
}

template <typename From, typename To>
void copy_matrix(const at::Tensor& x, const at::Tensor& out) {
  const auto* from = static_cast<const From*>(x.data_ptr());
  auto* to = static_cast<To*>(out.data_ptr());
  const int64_t columns = x.size(1), x_stride = x.stride(0), out_stride = out.stride(0);
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      copy_row(from + r * x_stride, to + r * out_stride, columns);
  };
  team().parallel_for(x.size(0), kRowGrain, part);
}

/// T is the element as the tiles see it: float, or 16 bits of a bfloat16.
template <typename T>
void transpose_matrix(const at::Tensor& x, const at::Tensor& out) {
  const auto* from = static_cast<const T*>(x.data_ptr());
  auto* to = static_cast<T*>(out.data_ptr());
  const int64_t rows = x.size(0), columns = x.size(1), stride = x.stride(0);
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c += kTile) {
      for (int64_t r = 0; r < rows; r += kTile) {
        transpose_tile(from + r * stride + c, stride, std::min(kTile, rows - r),
                       std::min(kTile, end - c), to + c * rows + r, rows);
      }
    }
  };
  team().parallel_for(columns, kTile, part);
}

}  // namespace

DType dtype_of(const at::Tensor& tensor) {
  const at::ScalarType type = tensor.scalar_type();
  MOLE_CHECK(type == at::kFloat || type == at::kBFloat16);
  return type == at::kFloat ? DType::kFloat32 : DType::kBFloat16;
}

at::ScalarType scalar_type(DType dtype) {
  MOLE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  return dtype == DType::kFloat32 ? at::kFloat : at::kBFloat16;
}

void check_tensor(const char* name, const at::Tensor& tensor, at::IntArrayRef shape, DType dtype) {
  bool good = tensor.defined() && tensor.scalar_type() == scalar_type(dtype) &&
              tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; good && i < shape.size(); ++i) {
    good = shape[i] == -1 || tensor.size(static_cast<int64_t>(i)) == shape[i];
  }
  // A dimension of one element has no meaningful stride.
  good = good && (tensor.dim() == 0 || tensor.size(-1) <= 1 || tensor.stride(-1) == 1);
  if (good) return;
  std::ostringstream text;
  text << ": expected " << dtype_name(dtype) << " " << shape << ", got ";
  if (tensor.defined()) {
    text << tensor.scalar_type() << " " << tensor.sizes() << " strides " << tensor.strides();
  } else {
    text << "no tensor";
  }
  internal::check_failed(__FILE__, __LINE__, name, text.str());
}

namespace {
at::Tensor empty_of(at::IntArrayRef shape, at::ScalarType type) {
  if (TensorPool* pool = TensorPool::current()) return pool->take(shape, type);
  return at::empty(shape, at::TensorOptions().dtype(type));
}
}  // namespace

at::Tensor empty(at::IntArrayRef shape, DType dtype) { return empty_of(shape, scalar_type(dtype)); }

at::Tensor empty_int32(at::IntArrayRef shape) { return empty_of(shape, at::kInt); }

at::Tensor zeros(at::IntArrayRef shape, DType dtype) {
  return at::zeros(shape, at::TensorOptions().dtype(scalar_type(dtype)));
}

at::Tensor cast(const at::Tensor& x, DType dtype) {
  if (dtype_of(x) == dtype && x.is_contiguous()) return x;
  at::Tensor out = empty(x.sizes(), dtype);
  copy_rows(x, out);
  return out;
}

void copy_rows(const at::Tensor& x, const at::Tensor& out) {
  check_tensor("copy_rows out", out, {x.size(0), x.size(1)}, dtype_of(out));
  check_tensor("copy_rows x", x, {-1, -1}, dtype_of(x));
  const bool from_f32 = dtype_of(x) == DType::kFloat32, to_f32 = dtype_of(out) == DType::kFloat32;
  if (from_f32 && to_f32) return copy_matrix<float, float>(x, out);
  if (from_f32) return copy_matrix<float, BFloat16>(x, out);
  if (to_f32) return copy_matrix<BFloat16, float>(x, out);
  return copy_matrix<BFloat16, BFloat16>(x, out);
}

at::Tensor transposed(const at::Tensor& x) {
  check_tensor("transposed x", x, {-1, -1}, dtype_of(x));
  at::Tensor out = empty({x.size(1), x.size(0)}, dtype_of(x));
  if (dtype_of(x) == DType::kFloat32) {
    transpose_matrix<float>(x, out);
  } else {
    transpose_matrix<uint16_t>(x, out);
  }
  return out;
}

}  // namespace mole::kernels
