#include <cmath>

#include "kernels/rms_norm/rms_norm.h"

namespace mole::kernels {
namespace {

double inverse_rms(const double* x, int64_t dim, double eps) {
  double squares = 0;
  for (int64_t i = 0; i < dim; ++i) squares += x[i] * x[i];
  return 1.0 / std::sqrt(squares / static_cast<double>(dim) + eps);
}

}  // namespace

void rms_norm_ref(const double* x, const double* weight, int64_t rows, int64_t dim, double eps,
                  double* y) {
  for (int64_t r = 0; r < rows; ++r) {
    const double inverse = inverse_rms(x + r * dim, dim, eps);
    for (int64_t i = 0; i < dim; ++i) y[r * dim + i] = x[r * dim + i] * inverse * weight[i];
  }
}

// With n = x * inverse and g = dy * weight: dx = inverse * (g - n * mean(g * n)).
void rms_norm_backward_ref(const double* x, const double* weight, const double* dy, int64_t rows,
                           int64_t dim, double eps, double* dx, double* dweight) {
  for (int64_t i = 0; i < dim; ++i) dweight[i] = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const double inverse = inverse_rms(x + r * dim, dim, eps);
    double mean = 0;
    for (int64_t i = 0; i < dim; ++i) {
      const double normed = x[r * dim + i] * inverse;
      mean += dy[r * dim + i] * weight[i] * normed / static_cast<double>(dim);
      dweight[i] += dy[r * dim + i] * normed;
    }
    for (int64_t i = 0; i < dim; ++i) {
      const double normed = x[r * dim + i] * inverse;
      dx[r * dim + i] = inverse * (dy[r * dim + i] * weight[i] - normed * mean);
    }
  }
}

}  // namespace mole::kernels
