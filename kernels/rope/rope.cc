#include "kernels/rope/rope.h"

#include <cmath>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/rope/rope_rows.h"

namespace mole::kernels {

RopeTable make_rope_table(const std::vector<double>& frequencies, int32_t max_positions,
                          double attention_factor) {
  RopeTable table;
  table.dim = static_cast<int32_t>(2 * frequencies.size());
  table.max_positions = max_positions;
  const size_t entries = frequencies.size() * static_cast<size_t>(max_positions);
  table.cos.reserve(entries);
  table.sin.reserve(entries);
  for (int32_t position = 0; position < max_positions; ++position) {
    for (double frequency : frequencies) {
      const double angle = position * frequency;
      table.cos.push_back(static_cast<float>(std::cos(angle) * attention_factor));
      table.sin.push_back(static_cast<float>(std::sin(angle) * attention_factor));
    }
  }
  return table;
}

void rope_part(const RopeArgs& args, int64_t begin, int64_t end) {
  isa() >= Isa::kAvx512 ? avx512::rope_rows(args, begin, end) : avx2::rope_rows(args, begin, end);
}

void rope(const RopeArgs& args, ThreadTeam& team) {
  MOLE_CHECK(args.dtype == DType::kFloat32 || args.dtype == DType::kBFloat16);
  MOLE_CHECK(args.table != nullptr);
  MOLE_CHECK_GE(args.rows, 0);
  MOLE_CHECK(args.rows == 0 || (args.x != nullptr && args.positions != nullptr));
  MOLE_CHECK(args.heads <= 1 || args.head_stride >= args.table->dim);
  MOLE_CHECK(args.from != nullptr || args.from_rows == nullptr);
  for (int64_t r = 0; r < args.rows; ++r) {
    MOLE_CHECK_GE(args.positions[r], 0);
    MOLE_CHECK_LT(args.positions[r], args.table->max_positions);
  }
  auto rows = [&args](int64_t begin, int64_t end) { rope_part(args, begin, end); };
  team.parallel_for(args.rows, rope_row_grain(int64_t{args.heads} * args.table->dim), rows);
}

}  // namespace mole::kernels
