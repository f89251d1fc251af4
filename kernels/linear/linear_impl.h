// What the files of `linear` share, and what `moe` builds on: many products in one parallel region.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear/linear.h"

namespace mole::kernels {

inline constexpr int64_t kPanel = 16;     // outputs of a packed panel
inline constexpr int64_t kBlockK = 32;    // k of a bfloat16 tile
inline constexpr int64_t kRowUnit = 32;   // rows and
inline constexpr int64_t kPanelUnit = 4;  // panels that threads are given whole

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/// Elements of one packed panel.
constexpr int64_t panel_elements(DType dtype, int64_t k) {
  return kPanel * (dtype == DType::kBFloat16 ? ceil_div(k, kBlockK) * kBlockK : k);
}

/// Where row i of x lies in memory, in rows.
inline int64_t memory_row(const LinearArgs& args, int64_t i) {
  return args.x_rows == nullptr ? i : args.x_rows[i];
}

/// A rectangle of the output: rows by panels of 16 columns.
struct LinearPart {
  int64_t row_begin = 0, row_end = 0;
  int64_t panel_begin = 0, panel_end = 0;
  /// What the thread will read next, so that memory's pipe stays full; null = unknown.
  const std::byte* next = nullptr;
};

/// bfloat16 rows of x in the order of the matrix units: blocks of 16 rows, each a run of tiles over
/// K (padded with zeros to a multiple of 32), a tile being its rows of 32 k one after the other. Up
/// to 16 rows there is one block with just as many; else the last is padded with zeros to 16.
inline constexpr int64_t kTileRows = 16;
constexpr int64_t padded_k(int64_t k) { return ceil_div(k, kBlockK) * kBlockK; }
/// Rows that are stored for `rows` rows.
constexpr int64_t tiled_rows(int64_t rows) {
  return rows <= kTileRows ? rows : ceil_div(rows, kTileRows) * kTileRows;
}
/// Blocks [block_begin, block_end) of the rows [row, row + count) of x, to `out`, which holds
/// tiled_rows(count) rows of padded_k. Needs AMX.
void pack_rows(const LinearArgs& args, int64_t row, int64_t count, int64_t block_begin,
               int64_t block_end, BFloat16* out);
/// Up to this many rows vector units keep up with memory, and read it in more streams than there
/// are tiles.
inline constexpr int64_t kVectorRows = 2;
/// Whether this machine multiplies them with AMX for a weight of bfloat16.
bool uses_tiles(const LinearArgs& args);
/// Most memory that rows packed for all threads take, in bytes.
inline constexpr int64_t kSharedBytes = int64_t{32} << 20;
/// Bytes that x takes there.
int64_t shared_bytes(const LinearArgs& args);
/// Packs x of every product that uses tiles (or rounds it for int8 weights), all threads together,
/// and points x_tiles to it. What finds no room in kSharedBytes is left as it is: its threads pack
/// for themselves. Memory of the calling thread, until the next call there.
void pack_all_rows(std::span<LinearArgs> products, ThreadTeam& team);
/// Computes it in the calling thread, which must flush denormals (a ThreadTeam's does).
/// Uses thread_scratch's kLinear.
void linear_part(const LinearArgs& args, const LinearPart& part);
/// All of it in the calling thread.
void linear_whole(const LinearArgs& args);

/// Several products that don't depend on each other, as one parallel region, split evenly by work.
void linear_many(std::span<const LinearArgs> products, ThreadTeam& team);

/// Where a weight to pack comes from; see PackedWeight::pack. Row i of the source's memory (n, or k
/// if transposed) is its row rows[i]; null = i.
struct PackSource {
  const void* weight = nullptr;
  DType dtype = DType::kFloat32;
  int64_t n = 0, k = 0, stride = 0;
  bool transposed = false;
  const int32_t* rows = nullptr;
};
struct PackTask {
  PackSource source;
  PackedWeight* packed = nullptr;
};
/// Packs several weights in one parallel region.
void pack_many(std::span<const PackTask> tasks, ThreadTeam& team);

namespace avx2 {
void pack_panels(const PackSource& source, std::byte* packed, int64_t panel_begin,
                 int64_t panel_end);
void linear_f32(const LinearArgs& args, const LinearPart& part);
void linear_bf16(const LinearArgs& args, const LinearPart& part);
}  // namespace avx2
namespace avx512 {
void pack_panels(const PackSource& source, std::byte* packed, int64_t panel_begin,
                 int64_t panel_end);
void linear_f32(const LinearArgs& args, const LinearPart& part);
void linear_bf16(const LinearArgs& args, const LinearPart& part);
}  // namespace avx512
void linear_bf16_amx(const LinearArgs& args, const LinearPart& part);

/// Panels that are wanted two at a time: each of [panel_begin, panel_end) with the one `distance`
/// panels further on.
struct PanelPairs {
  int64_t panel_begin = 0, panel_end = 0, distance = 0;
  const std::byte* next = nullptr;  // as in LinearPart
};
/// Sums of up to 16 consecutive rows of a product: [count][16] each.
struct PairSums {
  int64_t panel = 0, row = 0, count = 0;
  const float *first = nullptr, *second = nullptr;
};
/// A reference to a callable that takes them, valid during the call.
class PairSink {
 public:
  template <typename Fn>
  PairSink(Fn& fn)  // NOLINT(google-explicit-constructor): a lambda turns into it at the call
      : object_(&fn),
        call_([](void* object, const PairSums& sums) { (*static_cast<Fn*>(object))(sums); }) {}
  void operator()(const PairSums& sums) const { call_(object_, sums); }

 private:
  void* object_;
  void (*call_)(void*, const PairSums&);
};
/// Whether linear_pairs may compute the product, and is worth it.
bool takes_pairs(const LinearArgs& args);
/// All rows by such pairs, to `sink` instead of y, in the calling thread.
void linear_pairs(const LinearArgs& args, const PanelPairs& pairs, const PairSink& sink);

}  // namespace mole::kernels
