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
  const int64_t offset = to * args.y_stride + n0 - args.y_column;
  if (args.y_dtype == DType::kBFloat16) {
    store_part16(static_cast<BFloat16*>(args.y) + offset, sum, columns);
    return;
  }
  float* y = static_cast<float*>(args.y) + offset;
  if (args.accumulate) sum = add16(load_part16(y, columns), sum);
  store_part16(y, sum, columns);
}

/// `count` rows of sixteen sums, one after the other in `sums`, to rows `row` … of the output.
inline void store_rows(const LinearArgs& args, int64_t row, int64_t count, int64_t panel,
                       const float* sums) {
  const int64_t n0 = panel * kPanel;
  if (n0 + kPanel > args.weight->n()) {
    for (int64_t i = 0; i < count; ++i)
      store_panel(args, row + i, panel, load16(sums + i * kPanel));
    return;
  }
  const int32_t* map = args.y_rows;
  auto offset = [&](int64_t i) {
    return (map == nullptr ? row + i : map[row + i]) * args.y_stride + n0 - args.y_column;
  };
  if (args.y_dtype == DType::kBFloat16) {
    auto* y = static_cast<BFloat16*>(args.y);
    for (int64_t i = 0; i < count; ++i) store16(y + offset(i), load16(sums + i * kPanel));
    return;
  }
  auto* y = static_cast<float*>(args.y);
  if (args.accumulate) {
    for (int64_t i = 0; i < count; ++i) {
      float* to = y + offset(i);
      store16(to, add16(load16(to), load16(sums + i * kPanel)));
    }
    return;
  }
  for (int64_t i = 0; i < count; ++i) store16(y + offset(i), load16(sums + i * kPanel));
}

}  // namespace mole::kernels::MOLE_ISA
