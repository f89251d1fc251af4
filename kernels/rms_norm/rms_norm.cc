#include "kernels/rms_norm/rms_norm.h"

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace mole::kernels {
namespace {

void check(const RmsNormArgs& args) {
  MOLE_CHECK(args.dtype == DType::kFloat32 || args.dtype == DType::kBFloat16);
  MOLE_CHECK_GE(args.rows, 0);
  MOLE_CHECK_GT(args.dim, 0);
  MOLE_CHECK(args.rows == 0 || (args.x != nullptr && args.weight != nullptr));
  MOLE_CHECK(args.rows <= 1 || args.x_stride >= args.dim);
}

bool wide() { return isa() >= Isa::kAvx512; }

}  // namespace

void rms_norm(const RmsNormArgs& args, ThreadTeam& team) {
  check(args);
  MOLE_CHECK(args.rows == 0 || args.y != nullptr);
  MOLE_CHECK(args.rows <= 1 || args.y_stride >= args.dim);
  auto rows = [&args, kernel = wide() ? avx512::rms_norm_rows : avx2::rms_norm_rows](
                  int64_t begin, int64_t end) { kernel(args, begin, end); };
  team.parallel_for(args.rows, row_grain(args.dim), rows);
}

void rms_norm_backward(const RmsNormBackwardArgs& args, ThreadTeam& team) {
  check(args.forward);
  if (args.forward.rows == 0) return;
  MOLE_CHECK(args.forward.inverse_rms != nullptr && args.dy != nullptr);
  MOLE_CHECK(args.dx != nullptr && args.dweight != nullptr);
  auto rows = [&args,
               kernel = wide() ? avx512::rms_norm_backward_rows : avx2::rms_norm_backward_rows](
                  int64_t begin, int64_t end) { kernel(args, begin, end); };
  team.parallel_for(args.forward.rows, row_grain(args.forward.dim), rows);
  auto columns = [&args, kernel = wide() ? avx512::rms_norm_backward_columns
                                         : avx2::rms_norm_backward_columns](
                     int64_t begin, int64_t end) { kernel(args, begin, end); };
  team.parallel_for(args.forward.dim, 16, columns);
}

}  // namespace mole::kernels
