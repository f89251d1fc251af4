#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/linear/quantize.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

/// What the code of element (n, k) stands for before its scale.
double code_value(const QuantizedMatrix& w, int64_t n, int64_t k) {
  const std::byte* row = w.codes + n * code_row_bytes(w.format, w.k);
  if (w.format == WeightFormat::kInt4) {
    const auto pair = std::to_integer<int>(row[k / 2]);
    return (k % 2 == 0 ? pair & 15 : pair >> 4) - 8;
  }
  const auto code = std::to_integer<uint8_t>(row[k]);
  return w.format == WeightFormat::kFp8 ? e4m3_value(code) : static_cast<int8_t>(code);
}

double scale_of(const QuantizedMatrix& w, int64_t n, int64_t k) {
  const int64_t row = w.format == WeightFormat::kFp8 ? n / kGroupK : n;
  const int64_t column = has_groups(w.format) ? k / kGroupK : 0;
  float scale;
  std::memcpy(&scale, w.scales + 4 * (row * scale_columns(w.format, w.k) + column), sizeof(scale));
  return scale;
}

/// One row's run of values as the codes that int8 gives them, times the scale.
void round_run(const BFloat16* x, int64_t count, double* out) {
  float most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::fmax(most, std::abs(to_float(x[i])));
  const bool zero = most < 0x1p-100f;
  const float inverse = 127.0f / most, scale = most / 127.0f;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = zero ? 0.0 : static_cast<double>(std::nearbyint(to_float(x[i]) * inverse)) * scale;
  }
}

}  // namespace

void linear_quantized_ref(const BFloat16* x, const QuantizedMatrix& weight, int64_t rows, double* y,
                          double* magnitudes) {
  const int64_t n = weight.n, k = weight.k;
  std::vector<double> factor(static_cast<std::size_t>(k)), w(static_cast<std::size_t>(n * k));
  for (int64_t i = 0; i < n * k; ++i) {
    w[static_cast<std::size_t>(i)] =
        code_value(weight, i / k, i % k) * scale_of(weight, i / k, i % k);
  }
  for (int64_t r = 0; r < rows; ++r) {
    const BFloat16* from = x + r * k;
    for (std::size_t i = 0; i < factor.size(); ++i) factor[i] = to_float(from[i]);
    if (int8_activations(weight.format)) {
      const int64_t run = has_groups(weight.format) ? kGroupK : k;
      for (int64_t first = 0; first < k; first += run) {
        round_run(from + first, std::min(run, k - first), factor.data() + first);
      }
    }
    for (int64_t c = 0; c < n; ++c) {
      double sum = 0, magnitude = 0;
      for (std::size_t i = 0; i < factor.size(); ++i) {
        const double term = factor[i] * w[static_cast<std::size_t>(c * k) + i];
        sum += term;
        magnitude += std::abs(term);
      }
      y[r * n + c] = sum;
      if (magnitudes != nullptr) magnitudes[r * n + c] = magnitude;
    }
  }
}

}  // namespace mole::kernels
