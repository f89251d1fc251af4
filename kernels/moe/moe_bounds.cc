// Error bounds through the steps of moe, step by step ("propagation" in docs/numerics.md).
#include <cmath>

#include "kernels/cases/tolerance.h"
#include "kernels/moe/moe_cases.h"

namespace mole::kernels {
namespace {

// |silu'| <= 1.1 and |silu''| <= 0.5 everywhere.
constexpr double kSlope = 1.1, kCurve = 0.5;
constexpr int64_t kSteps = 10;  // roundings in silu and its derivative, as in silu_mul_cases.cc

}  // namespace

void add_rounding(Bounded& x, DType dtype) {
  for (std::size_t i = 0; i < x.size(); ++i) {
    x.error[i] += rounding_tolerance(std::abs(x.value[i]) + x.error[i], dtype);
  }
}

Bounded product(const Bounded& x, const double* matrix, std::size_t n, std::size_t row,
                std::size_t column) {
  Bounded out(n);
  for (std::size_t i = 0; i < n; ++i) {
    double magnitude = 0;
    for (std::size_t j = 0; j < x.size(); ++j) {
      const double w = matrix[i * row + j * column];
      out.value[i] += x.value[j] * w;
      out.error[i] += x.error[j] * std::abs(w);
      magnitude += (std::abs(x.value[j]) + x.error[j]) * std::abs(w);
    }
    out.error[i] += chain_tolerance(static_cast<int64_t>(x.size()), magnitude);
  }
  return out;
}

Bounded bounded_silu_mul(const Bounded& gate_up, DType dtype) {
  const std::size_t width = gate_up.size() / 2;
  Bounded out(width);
  for (std::size_t f = 0; f < width; ++f) {
    const double gate = gate_up.value[f], up = gate_up.value[width + f];
    const double gate_error = gate_up.error[f], up_error = gate_up.error[width + f];
    const double silu = gate / (1 + std::exp(-gate));
    out.value[f] = silu * up;
    out.error[f] = kSlope * gate_error * (std::abs(up) + up_error) + std::abs(silu) * up_error +
                   steps_tolerance(kSteps, out.value[f]);
  }
  add_rounding(out, dtype);
  return out;
}

Bounded bounded_silu_mul_backward(const Bounded& gate_up, const Bounded& dy, DType dtype) {
  const std::size_t width = dy.size();
  Bounded out(2 * width);
  for (std::size_t f = 0; f < width; ++f) {
    const double gate = gate_up.value[f], up = std::abs(gate_up.value[width + f]);
    const double gate_error = gate_up.error[f], up_error = gate_up.error[width + f];
    const double sigmoid = 1 / (1 + std::exp(-gate));
    const double slope = sigmoid * (1 + gate * (1 - sigmoid));
    const double slope_size = sigmoid * (1 + std::abs(gate));  // before it cancels
    const double size = std::abs(dy.value[f]) + dy.error[f];
    out.value[f] = dy.value[f] * gate_up.value[width + f] * slope;
    out.error[f] = dy.error[f] * up * kSlope + size * up_error * kSlope +
                   size * (up + up_error) * kCurve * gate_error +
                   steps_tolerance(kSteps, size * up * slope_size);
    out.value[width + f] = dy.value[f] * gate * sigmoid;
    out.error[width + f] = dy.error[f] * std::abs(gate * sigmoid) + size * kSlope * gate_error +
                           steps_tolerance(kSteps, out.value[width + f]);
  }
  add_rounding(out, dtype);
  return out;
}

}  // namespace mole::kernels
