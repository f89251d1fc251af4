// Rotary position embedding on the rotary part of queries or keys, in place or on the way to
// another place. Interleaved (DeepSeek): pair i is elements (2i, 2i+1). Half-split (Mixtral,
// Llama): pair i is elements (i, i + dim/2). Either way pair i turns by the angle position *
// frequency[i]:
//   (a, b) -> (a cos - b sin, b cos + a sin).
// DeepSeek's own code writes the turned pairs apart (all a, then all b); the dot product of a query
// and a key is the same either way, and in place keeps the cache in the layout of the weights.
// Source: RoFormer (arXiv 2104.09864); YaRN scaling of the frequencies: arXiv 2309.00071.
// Numerics: cos and sin from a float32 table made once with double precision; products rounded, one
// FMA each; result rounded once to the dtype.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

enum class RopeLayout : uint8_t { kInterleaved, kHalfSplit };

/// cos and sin of every (position, pair): [max_positions, dim/2] each. `attention_factor`
/// multiplies both (YaRN's mscale ratio; 1 without scaling).
struct RopeTable {
  int32_t dim = 0;
  int32_t max_positions = 0;
  std::vector<float> cos, sin;
};
/// Frequencies in radians per position, [dim/2].
RopeTable make_rope_table(const std::vector<double>& frequencies, int32_t max_positions,
                          double attention_factor);

struct RopeArgs {
  void* x = nullptr;  // [rows, heads, table.dim] dtype, in place unless `from` is given
  DType dtype = DType::kFloat32;
  int64_t rows = 0;
  int32_t heads = 0;
  int64_t row_stride = 0, head_stride = 0;  // elements
  const int32_t* positions = nullptr;       // [rows], each in [0, table.max_positions)
  const RopeTable* table = nullptr;
  RopeLayout layout = RopeLayout::kInterleaved;
  bool inverse = false;  // turn back: the gradient
  /// Where the values come from, if not from x itself: row r of x is row from_rows[r] of `from`, or
  /// its row r if from_rows is null. Must not overlap x.
  const void* from = nullptr;
  int64_t from_row_stride = 0, from_head_stride = 0;  // elements
  const int32_t* from_rows = nullptr;
};
void rope(const RopeArgs& args, ThreadTeam& team);

/// The same turn in float64, in place on contiguous x [rows, heads, 2 * frequencies.size()]; the
/// angle is not taken from a table. `inverse` turns back without dividing by the attention factor:
/// the gradient.
void rope_ref(double* x, int64_t rows, int32_t heads, const int32_t* positions,
              const std::vector<double>& frequencies, double attention_factor, RopeLayout layout,
              bool inverse);

}  // namespace mole::kernels
