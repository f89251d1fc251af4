// Two panels at a time for one purpose, as gate and up are: what is made of their sums never sees
// memory.
#include <immintrin.h>

#include "kernels/cpu/amx_tiles.h"
#include "kernels/linear/pair_loop.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

// Of x, which is to stay in the second-level cache.
constexpr int64_t kMostBytes = int64_t{1} << 20;

void plain_pairs(const LinearArgs& args, const PanelPairs& pairs, const PairSink& sink) {
  alignas(64) float sums[4 * avx512::kSums];
  const int64_t panel = padded_k(args.weight->k()) / kBlockK * avx512::kTileBytes;
  const avx512::PairLoop loop{.x = reinterpret_cast<const std::byte*>(args.x_tiles),
                              .x_block = panel,
                              .rows = args.rows,
                              .weight = args.weight->data(),
                              .panel = panel,
                              .blocks = panel / avx512::kTileBytes,
                              .sums = sums};
  const avx512::Tiles tiles;
  avx512::for_pairs<avx512::Factors::kBFloat16>(loop, pairs,
                                                [&](int64_t first, int64_t row, int64_t rows) {
                                                  avx512::sink_square(sums, first, row, rows, sink);
                                                });
}

}  // namespace

bool takes_pairs(const LinearArgs& args) {
  const WeightFormat format = args.weight->format();
  const bool plain = format == WeightFormat::kPlain && uses_tiles(args);
  const bool whole = format == WeightFormat::kInt8 && int8_by_tiles(args);
  const int64_t element = plain ? 2 : 1;
  return (plain || whole) && args.x_tiles != nullptr && args.rows > 2 * kTileRows &&
         tiled_rows(args.rows) * padded_k(args.weight->k()) * element <= kMostBytes;
}

void linear_pairs(const LinearArgs& args, const PanelPairs& pairs, const PairSink& sink) {
  args.weight->format() == WeightFormat::kInt8 ? linear_pairs_int8_amx(args, pairs, sink)
                                               : plain_pairs(args, pairs, sink);
}

}  // namespace mole::kernels
