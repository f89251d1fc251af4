#include <cmath>

#include "kernels/silu_mul/silu_mul.h"

namespace mole::kernels {

void silu_mul_ref(const double* gate_up, double* y, int64_t rows, int64_t width) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; ++i) {
      const double gate = gate_up[row * 2 * width + i];
      const double up = gate_up[row * 2 * width + width + i];
      y[row * width + i] = gate / (1 + std::exp(-gate)) * up;
    }
  }
}

void silu_mul_backward_ref(const double* gate_up, const double* dy, double* dgate_up, int64_t rows,
                           int64_t width) {
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; ++i) {
      const int64_t at = row * 2 * width + i;
      const double gate = gate_up[at], up = gate_up[at + width];
      const double sigmoid = 1 / (1 + std::exp(-gate));
      const double slope = sigmoid * (1 + gate * (1 - sigmoid));
      dgate_up[at] = dy[row * width + i] * up * slope;
      dgate_up[at + width] = dy[row * width + i] * gate * sigmoid;
    }
  }
}

}  // namespace mole::kernels
