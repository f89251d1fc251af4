// From exact integer sums to y, for all ways that make the sums.
#pragma once

#include "kernels/linear/int_lanes.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels::MOLE_ISA {

/// What sixteen sums of one run of k are worth: (x's scale times the weight's) times the sum; for
/// groups added to `total` with one rounding. The int32 sum is rounded once where it passes 2^24.
inline F32x16 finish_run(I32x16 sum, float x_scale, const float* scales) {
  return mul16(to_float16(sum), mul16(set16(x_scale), load16(scales)));
}
inline F32x16 finish_group(I32x16 sum, float x_scale, const float* scales, F32x16 total) {
  return fma16(to_float16(sum), mul16(set16(x_scale), load16(scales)), total);
}

/// The panels of an int8 weight.
struct Int8Panels {
  explicit Int8Panels(const PackedWeight& weight)
      : data(weight.data()),
        format(weight.format()),
        bytes(quantized_panel_bytes(weight.format(), weight.k())),
        tiles(ceil_div(weight.k(), kInt8TileK)) {}

  const std::byte* panel(int64_t p) const { return data + p * bytes; }
  /// Codes and scales of run `r` (0 for kInt8) of a panel.
  const std::byte* codes(int64_t p, int64_t r) const {
    return panel(p) + r * (group_code_bytes(format) + kScaleBytes);
  }
  const float* scales(int64_t p, int64_t r) const {
    const std::byte* at =
        format == WeightFormat::kInt8 ? panel(p) + tiles * kInt8Tile : codes(p, r) + kGroupElements;
    return reinterpret_cast<const float*>(at);
  }
  /// Tiles of one run of k.
  int64_t run_tiles() const { return format == WeightFormat::kInt8 ? tiles : 2; }

  const std::byte* data;
  WeightFormat format;
  int64_t bytes, tiles;
};

}  // namespace mole::kernels::MOLE_ISA
