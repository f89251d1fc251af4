// linear_pairs for int8 factors.
#include <immintrin.h>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/linear/int8_finish.h"
#include "kernels/linear/pair_loop.h"

namespace mole::kernels {
namespace avx512 {
namespace {

/// What the sums of one tile are worth, in their place.
void finish_tile(const int32_t* sums, int64_t rows, const float* x_scales, const float* scales,
                 float* out) {
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = i * kPanel;
    store16(out + at, finish_run(load_int16(sums + at), x_scales[i], scales));
  }
}

}  // namespace
}  // namespace avx512

void linear_pairs_int8_amx(const LinearArgs& args, const PanelPairs& pairs, const PairSink& sink) {
  using avx512::kSums;
  const avx512::Int8Panels panels(*args.weight);
  auto* const memory = reinterpret_cast<std::byte*>(const_cast<BFloat16*>(args.x_tiles));
  const Int8Rows x = int8_rows_at(args, args.rows, memory);
  alignas(64) int32_t sums[4 * kSums];
  alignas(64) float values[4 * kSums];
  const avx512::PairLoop loop{.x = reinterpret_cast<const std::byte*>(x.codes),
                              .x_block = kTileRows * x.stride,
                              .rows = args.rows,
                              .weight = args.weight->data(),
                              .panel = panels.bytes,
                              .blocks = panels.tiles,
                              .sums = sums};
  const avx512::Tiles tiles;
  avx512::for_pairs<avx512::Factors::kInt8>(
      loop, pairs, [&](int64_t panel, int64_t row, int64_t rows) {
        for (int64_t tile = 0; tile < 4; ++tile) {
          const int64_t first = tile / 2 * kTileRows;
          if (first >= rows) break;
          const float* scales = panels.scales(panel + tile % 2 * pairs.distance, 0);
          avx512::finish_tile(sums + tile * kSums, std::min(kTileRows, rows - first),
                              x.scales + row + first, scales, values + tile * kSums);
        }
        avx512::sink_square(values, panel, row, rows, sink);
      });
}

}  // namespace mole::kernels
