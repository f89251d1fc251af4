#include <cmath>

#include "kernels/adamw/adamw.h"

namespace mole::kernels {

void adamw_ref(double* parameter, const double* gradient, double* moment1, double* moment2,
               int64_t count, const AdamWArgs& scalars) {
  const auto step = static_cast<double>(scalars.step);
  for (int64_t i = 0; i < count; ++i) {
    const double g = gradient[i] * scalars.gradient_scale;
    parameter[i] -= scalars.learning_rate * scalars.weight_decay * parameter[i];
    moment1[i] = scalars.beta1 * moment1[i] + (1 - scalars.beta1) * g;
    moment2[i] = scalars.beta2 * moment2[i] + (1 - scalars.beta2) * g * g;
    const double m = moment1[i] / (1 - std::pow(scalars.beta1, step));
    const double v = moment2[i] / (1 - std::pow(scalars.beta2, step));
    parameter[i] -= scalars.learning_rate * m / (std::sqrt(v) + scalars.eps);
  }
}

}  // namespace mole::kernels
