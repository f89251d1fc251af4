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
};
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

}  // namespace mole::kernels
