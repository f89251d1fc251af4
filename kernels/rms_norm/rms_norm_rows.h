// The parts of rms_norm that are compiled once per instruction set; rms_norm.cc chooses.
#pragma once

#include "kernels/rms_norm/add_rms_norm.h"
#include "kernels/rms_norm/rms_norm.h"

#define MOLE_RMS_NORM_ROWS                                                                  \
  /* Rows [begin, end). */                                                                  \
  void rms_norm_rows(const RmsNormArgs& args, int64_t begin, int64_t end);                  \
  void add_rms_norm_rows(const AddRmsNormArgs& args, int64_t begin, int64_t end);           \
  void rms_norm_backward_rows(const RmsNormBackwardArgs& args, int64_t begin, int64_t end); \
  /* Columns [begin, end) of dweight. */                                                    \
  void rms_norm_backward_columns(const RmsNormBackwardArgs& args, int64_t begin, int64_t end);

namespace mole::kernels {
/// Rows that a thread takes at least: some thousand elements, or the region costs more than the
/// work.
constexpr int64_t row_grain(int64_t dim) { return 1 + 4096 / dim; }
}  // namespace mole::kernels
namespace mole::kernels::avx2 {
MOLE_RMS_NORM_ROWS
}
namespace mole::kernels::avx512 {
MOLE_RMS_NORM_ROWS
}
#undef MOLE_RMS_NORM_ROWS
