#include "kernels/linear/linear.h"

#include <algorithm>
#include <vector>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/quantized_impl.h"

namespace mole::kernels {
namespace {

void validate(const LinearArgs& args) {
  MOLE_CHECK(args.weight != nullptr);
  const PackedWeight& weight = *args.weight;
  MOLE_CHECK_GE(args.rows, 0);
  MOLE_CHECK(args.rows == 0 || (args.x != nullptr && args.y != nullptr));
  MOLE_CHECK_GE(args.x_stride, args.x_transposed ? args.rows : weight.k());
  MOLE_CHECK_GE(args.y_stride, weight.n());
  MOLE_CHECK(args.y_dtype == DType::kFloat32 || args.y_dtype == DType::kBFloat16);
  MOLE_CHECK(!args.accumulate || args.y_dtype == DType::kFloat32);
}

// A weight that every thread may keep in its second-level cache.
constexpr int64_t kSmallWeight = int64_t{1} << 20;

/// One product's output as a grid of units, numbered so that a thread's run of numbers is nearly a
/// rectangle: along rows where there are many and the weight is small, else along panels, so that
/// the weight is read once.
struct Grid {
  int64_t rows, panels;            // sizes
  int64_t row_units, panel_units;  // in units
  bool rows_outer;

  Grid(const LinearArgs& args, int32_t threads)
      : rows(args.rows),
        panels(ceil_div(args.weight->n(), kPanel)),
        row_units(ceil_div(rows, kRowUnit)),
        panel_units(ceil_div(panels, kPanelUnit)),
        rows_outer(row_units >= 2 * int64_t{threads} && args.weight->bytes() <= kSmallWeight) {}

  int64_t units() const { return row_units * panel_units; }
  int64_t inner() const { return rows_outer ? panel_units : row_units; }

  /// Units [outer_begin, outer_end) by [inner_begin, inner_end).
  LinearPart part(int64_t outer_begin, int64_t outer_end, int64_t inner_begin,
                  int64_t inner_end) const {
    if (!rows_outer) {
      std::swap(outer_begin, inner_begin);
      std::swap(outer_end, inner_end);
    }
    return {outer_begin * kRowUnit, std::min(rows, outer_end * kRowUnit), inner_begin * kPanelUnit,
            std::min(panels, inner_end * kPanelUnit)};
  }
};

/// Cost of one unit of the grid, in blocks of k.
int64_t unit_work(const LinearArgs& args) {
  return std::max(int64_t{1}, ceil_div(args.weight->k(), kBlockK));
}

/// Units [begin, end) of one product: a partial first line, whole lines, a partial last one.
void run_units(const LinearArgs& args, const Grid& grid, int64_t begin, int64_t end) {
  const int64_t inner = grid.inner();
  while (begin < end) {
    const int64_t line = begin / inner;
    const int64_t offset = begin % inner;
    if (offset != 0 || end - begin < inner) {
      const int64_t stop = std::min(inner, offset + (end - begin));
      linear_part(args, grid.part(line, line + 1, offset, stop));
      begin += stop - offset;
    } else {
      const int64_t lines = (end - begin) / inner;
      linear_part(args, grid.part(line, line + lines, 0, inner));
      begin += lines * inner;
    }
  }
}

/// Packs x once where several threads need the same rows.
void share_rows(std::vector<LinearArgs>& products, ThreadTeam& team) {
  const int32_t threads = team.num_threads();
  // Products that are split by rows go to the end, out of the way.
  const auto by_panels = [&](const LinearArgs& args) { return !Grid(args, threads).rows_outer; };
  const auto end = std::partition(products.begin(), products.end(), by_panels);
  pack_all_rows({products.begin(), end}, team);
}

}  // namespace

void linear_part(const LinearArgs& args, const LinearPart& part) {
  if (args.weight->format() != WeightFormat::kPlain) return linear_quantized(args, part);
  const Isa set = isa();
  if (args.weight->dtype() == DType::kFloat32) {
    return set == Isa::kAvx2 ? avx2::linear_f32(args, part) : avx512::linear_f32(args, part);
  }
  if (uses_tiles(args)) return linear_bf16_amx(args, part);
  return set == Isa::kAvx2 ? avx2::linear_bf16(args, part) : avx512::linear_bf16(args, part);
}

void linear_whole(const LinearArgs& args) {
  validate(args);
  linear_part(args, {0, args.rows, 0, ceil_div(args.weight->n(), kPanel)});
}

void linear_many(std::span<const LinearArgs> given, ThreadTeam& team) {
  const int32_t threads = team.num_threads();
  thread_local std::vector<LinearArgs> kept;
  kept.assign(given.begin(), given.end());
  int64_t total = 0;
  for (const LinearArgs& args : kept) {
    validate(args);
    total += Grid(args, threads).units() * unit_work(args);
  }
  share_rows(kept, team);
  const std::span<const LinearArgs> products = kept;  // this thread's, in the others too
  auto part = [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // work before this product
    for (const LinearArgs& args : products) {
      const Grid grid(args, threads);
      const int64_t work = unit_work(args);
      // A unit belongs to the thread in whose range of work it begins.
      const int64_t from = std::max(ceil_div(begin - first, work), int64_t{0});
      const int64_t to = std::min(ceil_div(end - first, work), grid.units());
      if (from < to) run_units(args, grid, from, to);
      first += grid.units() * work;
      if (first >= end) return;
    }
  };
  team.parallel_for(total, 1, part);
}

void linear(const LinearArgs& args, ThreadTeam& team) { linear_many({&args, 1}, team); }

}  // namespace mole::kernels
