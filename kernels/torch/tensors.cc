#include "kernels/torch/tensors.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cstring>
#include <sstream>

#include "base/check.h"
#include "kernels/torch/team.h"

namespace mole::kernels {

namespace {

constexpr int64_t kRowGrain = 16;
constexpr int64_t kTile = 32;  // of the transposition: 32 x 32 elements fit the first-level cache

void copy_row(const float* x, BFloat16* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = to_bfloat16(x[i]);
}
void copy_row(const BFloat16* x, float* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) y[i] = to_float(x[i]);
}
template <typename T>
void copy_row(const T* x, T* y, int64_t count) {
  std::memcpy(y, x, static_cast<size_t>(count) * sizeof(T));
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

template <typename T>
void transpose_matrix(const at::Tensor& x, const at::Tensor& out) {
  const auto* from = static_cast<const T*>(x.data_ptr());
  auto* to = static_cast<T*>(out.data_ptr());
  const int64_t rows = x.size(0), columns = x.size(1), stride = x.stride(0);
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t c0 = begin; c0 < end; c0 += kTile) {
      const int64_t c1 = std::min(c0 + kTile, end);
      for (int64_t r0 = 0; r0 < rows; r0 += kTile) {
        const int64_t r1 = std::min(r0 + kTile, rows);
        for (int64_t c = c0; c < c1; ++c) {
          for (int64_t r = r0; r < r1; ++r) to[c * rows + r] = from[r * stride + c];
        }
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

at::Tensor empty(at::IntArrayRef shape, DType dtype) {
  return at::empty(shape, at::TensorOptions().dtype(scalar_type(dtype)));
}

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
    transpose_matrix<BFloat16>(x, out);
  }
  return out;
}

}  // namespace mole::kernels
