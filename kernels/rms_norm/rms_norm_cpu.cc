#include <cmath>

#include "kernels/cpu/lanes.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace mole::kernels::MOLE_ISA {
namespace {

template <typename T>
float inverse_rms_of(const T* x, int64_t dim, float eps) {
  F32x16 squares = zero16();
  for (int64_t i = 0; i < dim; i += 16) {
    const F32x16 v = load_partial16(x + i, dim - i);
    squares = fma16(v, v, squares);
  }
  return 1.0f / std::sqrt(sum_lanes16(squares) / static_cast<float>(dim) + eps);
}

template <typename T>
void forward_rows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  const T* weight = static_cast<const T*>(args.weight);
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(args.x) + r * args.x_stride;
    T* y = static_cast<T*>(args.y) + r * args.y_stride;
    const float inverse = inverse_rms_of(x, args.dim, args.eps);
    if (args.inverse_rms != nullptr) args.inverse_rms[r] = inverse;
    for (int64_t i = 0; i < args.dim; i += 16) {
      const F32x16 normed = mul16(load_partial16(x + i, args.dim - i), set16(inverse));
      store_partial16(y + i, mul16(normed, load_partial16(weight + i, args.dim - i)), args.dim - i);
    }
  }
}

/// sum = x + delta, or x + (delta + second), each sum rounded; returns nothing that isn't stored.
template <typename T>
void add_row(const AddRmsNormArgs& args, int64_t first) {
  const T* x = static_cast<const T*>(args.x) + first;
  const T* delta = static_cast<const T*>(args.delta) + first;
  const T* second =
      args.second_delta == nullptr ? nullptr : static_cast<const T*>(args.second_delta) + first;
  T* sum = static_cast<T*>(args.sum) + first;
  for (int64_t i = 0; i < args.dim; i += 16) {
    const int64_t count = args.dim - i;
    F32x16 added = load_partial16(delta + i, count);
    if (second != nullptr) {
      alignas(64) T rounded[16];
      store16(rounded, add16(added, load_partial16(second + i, count)));
      added = load16(rounded);
    }
    store_partial16(sum + i, add16(load_partial16(x + i, count), added), count);
  }
}

template <typename T>
void add_rows(const AddRmsNormArgs& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    add_row<T>(args, r * args.dim);
    if (args.y == nullptr) continue;
    // The row is still in the first-level cache.
    forward_rows<T>({.x = args.sum,
                     .weight = args.weight,
                     .y = args.y,
                     .dtype = args.dtype,
                     .rows = args.rows,
                     .dim = args.dim,
                     .x_stride = args.dim,
                     .y_stride = args.dim,
                     .eps = args.eps,
                     .inverse_rms = args.inverse_rms},
                    r, r + 1);
  }
}

// dx = inverse * (g - n * mean(g * n)) + dresidual with n = x * inverse, g = dy * weight.
template <typename T>
void backward_rows(const RmsNormBackwardArgs& args, int64_t begin, int64_t end) {
  const int64_t dim = args.forward.dim;
  const T* weight = static_cast<const T*>(args.forward.weight);
  for (int64_t r = begin; r < end; ++r) {
    const T* x = static_cast<const T*>(args.forward.x) + r * args.forward.x_stride;
    const T* dy = static_cast<const T*>(args.dy) + r * dim;
    const T* residual =
        args.dresidual == nullptr ? nullptr : static_cast<const T*>(args.dresidual) + r * dim;
    const F32x16 inverse = set16(args.forward.inverse_rms[r]);
    F32x16 products = zero16();
    for (int64_t i = 0; i < dim; i += 16) {
      const F32x16 normed = mul16(load_partial16(x + i, dim - i), inverse);
      const F32x16 g = mul16(load_partial16(dy + i, dim - i), load_partial16(weight + i, dim - i));
      products = fma16(g, normed, products);
    }
    const F32x16 mean = set16(sum_lanes16(products) / static_cast<float>(dim));
    for (int64_t i = 0; i < dim; i += 16) {
      const F32x16 normed = mul16(load_partial16(x + i, dim - i), inverse);
      const F32x16 g = mul16(load_partial16(dy + i, dim - i), load_partial16(weight + i, dim - i));
      F32x16 dx = mul16(inverse, fnma16(normed, mean, g));
      if (residual != nullptr) dx = add16(dx, load_partial16(residual + i, dim - i));
      store_partial16(args.dx + r * dim + i, dx, dim - i);
    }
  }
}

template <typename T>
void backward_columns(const RmsNormBackwardArgs& args, int64_t begin, int64_t end) {
  const int64_t dim = args.forward.dim;
  for (int64_t r = 0; r < args.forward.rows; ++r) {
    const T* x = static_cast<const T*>(args.forward.x) + r * args.forward.x_stride;
    const T* dy = static_cast<const T*>(args.dy) + r * dim;
    const F32x16 inverse = set16(args.forward.inverse_rms[r]);
    for (int64_t i = begin; i < end; i += 16) {
      const int64_t count = end - i;
      const F32x16 normed = mul16(load_partial16(x + i, count), inverse);
      const F32x16 sum = load_partial16(args.dweight + i, count);
      store_partial16(args.dweight + i, fma16(load_partial16(dy + i, count), normed, sum), count);
    }
  }
}

}  // namespace

void rms_norm_rows(const RmsNormArgs& args, int64_t begin, int64_t end) {
  if (args.dtype == DType::kFloat32) return forward_rows<float>(args, begin, end);
  forward_rows<BFloat16>(args, begin, end);
}

void add_rms_norm_rows(const AddRmsNormArgs& args, int64_t begin, int64_t end) {
  if (args.dtype == DType::kFloat32) return add_rows<float>(args, begin, end);
  add_rows<BFloat16>(args, begin, end);
}

void rms_norm_backward_rows(const RmsNormBackwardArgs& args, int64_t begin, int64_t end) {
  if (args.forward.dtype == DType::kFloat32) return backward_rows<float>(args, begin, end);
  backward_rows<BFloat16>(args, begin, end);
}

void rms_norm_backward_columns(const RmsNormBackwardArgs& args, int64_t begin, int64_t end) {
  if (args.forward.dtype == DType::kFloat32) return backward_columns<float>(args, begin, end);
  backward_columns<BFloat16>(args, begin, end);
}

}  // namespace mole::kernels::MOLE_ISA
