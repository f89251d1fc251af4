// Spans without matrix units: TDPBF16PS by fused multiply-adds, an even and an odd chain of sixteen
// for each block of 32.
#include "kernels/attention/span_pass.h"

namespace mole::kernels::MOLE_ISA {
namespace {

// Rows whose two chains stay in registers.
#if defined(__AVX512F__) && defined(__AVX512BW__)
constexpr int kChainRows = 8;
#else
constexpr int kChainRows = 2;
#endif

/// c [16][16] += a [16][32] times the tile b [16 pairs][16][2].
void multiply_tile(const float* a, const BFloat16* b, float* c) {
  for (int row = 0; row < kTileRows; row += kChainRows, a += 32 * kChainRows) {
    F32x16 even[kChainRows], odd[kChainRows];
#pragma GCC unroll 8
    for (int i = 0; i < kChainRows; ++i) even[i] = odd[i] = zero16();
#pragma GCC unroll 1
    for (int64_t pair = 0; pair < 16; ++pair) {
      const F32x16 b_even = load_even16(b + 32 * pair), b_odd = load_odd16(b + 32 * pair);
#pragma GCC unroll 8
      for (int i = 0; i < kChainRows; ++i) {
        even[i] = fma16(set16(a[32 * i + 2 * pair]), b_even, even[i]);
        odd[i] = fma16(set16(a[32 * i + 2 * pair + 1]), b_odd, odd[i]);
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kChainRows; ++i, c += 16) {
      store16(c, add16(load16(c), add16(even[i], odd[i])));
    }
  }
}

/// Sixteen rows of 32 as float32.
void widen_tile(const BFloat16* rows, int64_t stride, float* out) {
  for (int64_t i = 0; i < kTileRows; ++i, rows += stride, out += 32) {
    store16(out, load16(rows));
    store16(out + 16, load16(rows + 16));
  }
}

void clear(float* out, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) store16(out + i, zero16());
}

struct FmaEngine {
  struct Scope {
    Scope() {}
  };

  using Rounding = PlainRounding;

  template <int K>
  static void scores(const KeyTiles& keys, const BFloat16* q, int64_t blocks, float* out,
                     Ahead& ahead) {
    alignas(64) float wide[kTileElements];
    const KeyLayout& layout = keys.layout;
    clear(out, K * 256);
    for (int64_t block = 0; block < blocks; ++block, q += kTileElements) {
      ahead.step();
      for (int64_t k = 0; k < K; ++k) {
        widen_tile(keys.data + k * layout.tile + block * layout.block, layout.row, wide);
        multiply_tile(wide, q, out + 256 * k);
      }
    }
  }

  static void scores_of_two(const KeyTiles& keys, const BFloat16* q, int64_t blocks, float* out,
                            Ahead& ahead) {
    scores<2>(keys, q, blocks, out, ahead);
    scores<2>(keys, q + blocks * kTileElements, blocks, out + kAttentionSpan * kTileRows, ahead);
  }

  template <int N>
  static void values(const BFloat16* p, const ChunkValues& values, int64_t blocks, float* out,
                     Ahead& ahead) {
    alignas(64) float wide[kTileElements];
    clear(out, N * 256);
    for (int64_t block = 0; block < blocks; ++block) {
      ahead.step();
      const BFloat16* v = values.block(block);
      widen_tile(p + block * kTileElements, 32, wide);
      for (int64_t n = 0; n < N; ++n) {
        multiply_tile(wide, v + n * kTileElements, out + 256 * n);
      }
    }
  }
};

}  // namespace

void attention_spans(const SpanPiece* pieces, int64_t count) {
  run_pieces<FmaEngine>(pieces, count);
}

void attention_merge(const SpanMerge& merge) {
  constexpr int64_t kMostColumns = 64;
  alignas(64) float output[kMostColumns * kTileRows];
  MergeFactors factors;
  const AttentionArgs& args = *merge.args;
  const int64_t rows = args.num_queries * (args.num_heads / args.num_kv_heads);
  const int64_t first = merge.tile * kTileRows;
  for (int64_t begin = merge.column_begin; begin < merge.column_end; begin += kMostColumns) {
    const int64_t end = smaller(begin + kMostColumns, merge.column_end);
    const float* from = merge.states + 48 + begin * kTileRows;
    for (int64_t f = 0; f < (end - begin) * kTileRows; f += 16) {
      store16(output + f, load16(from + f));
    }
    TileSums sums = load_sums(merge.states);
    for (int64_t slot = 1; slot < merge.slots; ++slot) {
      const float* next = merge.states + slot * merge.slot_floats;
      merge_sums(sums, load_sums(next), factors);
      merge_output(output, next + 48 + begin * kTileRows, (end - begin) / 16, factors, 0,
                   kTileRows);
    }
    write_tile(args, merge.kv_head, first, smaller(kTileRows, rows - first), sums, output, begin,
               end);
  }
}

}  // namespace mole::kernels::MOLE_ISA
