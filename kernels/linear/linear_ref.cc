#include "kernels/linear/linear.h"

namespace mole::kernels {

void linear_ref(const double* x, const double* weight, double* y, int64_t rows, int64_t n,
                int64_t k) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < n; ++column) {
      double sum = 0;
      for (int64_t i = 0; i < k; ++i) sum += x[row * k + i] * weight[column * k + i];
      y[row * n + column] = sum;
    }
  }
}

}  // namespace mole::kernels
