// The way from a block of float32 sums to y: rounding, accumulation, edges and scattered rows.
#pragma once

#include <algorithm>

#include "kernels/cpu/simd.h"
#include "kernels/linear/linear_impl.h"

namespace mole::kernels::MOLE_ISA {

/// Sixteen sums of one output row, columns 16 * panel …; what lies past N is dropped.
inline void store_panel(const LinearArgs& args, int64_t row, int64_t panel, F32x16 sum) {
  const int64_t n0 = panel * kPanel;
  const int64_t columns = std::min(kPanel, args.weight->n() - n0);
  const int64_t to = args.y_rows == nullptr ? row : args.y_rows[row];
  const int64_t offset = to * args.y_stride + n0;
  if (args.y_dtype == DType::kBFloat16) {
    store_part16(static_cast<BFloat16*>(args.y) + offset, sum, columns);
    return;
  }
  float* y = static_cast<float*>(args.y) + offset;
  if (args.accumulate) sum = add16(load_part16(y, columns), sum);
  store_part16(y, sum, columns);
}

}  // namespace mole::kernels::MOLE_ISA
