#include <cmath>

#include "kernels/rope/rope.h"

namespace mole::kernels {

void rope_ref(double* x, int64_t rows, int32_t heads, const int32_t* positions,
              const std::vector<double>& frequencies, double attention_factor, RopeLayout layout,
              bool inverse) {
  const int64_t half = static_cast<int64_t>(frequencies.size());
  const bool interleaved = layout == RopeLayout::kInterleaved;
  for (int64_t r = 0; r < rows; ++r) {
    for (int32_t h = 0; h < heads; ++h) {
      double* head = x + (r * heads + h) * 2 * half;
      for (int64_t i = 0; i < half; ++i) {
        const double angle = positions[r] * frequencies[static_cast<size_t>(i)];
        const double cos = std::cos(angle) * attention_factor;
        const double sin = std::sin(angle) * attention_factor * (inverse ? -1.0 : 1.0);
        double& a = head[interleaved ? 2 * i : i];
        double& b = head[interleaved ? 2 * i + 1 : i + half];
        const double turned_a = a * cos - b * sin;
        b = b * cos + a * sin;
        a = turned_a;
      }
    }
  }
}

}  // namespace mole::kernels
