// The part of rope that is compiled once per instruction set; rope.cc chooses.
#pragma once

#include "kernels/rope/rope.h"

namespace mole::kernels {
/// Rows [begin, end) in the calling thread, for operations that turn rows in regions of their own.
/// Positions are not checked.
void rope_part(const RopeArgs& args, int64_t begin, int64_t end);
/// Rows that a thread takes at least: some thousand elements, or the region costs more than the
/// work.
constexpr int64_t rope_row_grain(int64_t elements) { return 1 + 4096 / (elements + 1); }
}  // namespace mole::kernels
namespace mole::kernels::avx2 {
void rope_rows(const RopeArgs& args, int64_t begin, int64_t end);
}
namespace mole::kernels::avx512 {
void rope_rows(const RopeArgs& args, int64_t begin, int64_t end);
}
