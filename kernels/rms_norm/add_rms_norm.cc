#include "kernels/rms_norm/add_rms_norm.h"

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/rms_norm/rms_norm_rows.h"

namespace mole::kernels {

void add_rms_norm(const AddRmsNormArgs& args, ThreadTeam& team) {
  MOLE_CHECK(args.dtype == DType::kFloat32 || args.dtype == DType::kBFloat16);
  MOLE_CHECK_GE(args.rows, 0);
  MOLE_CHECK_GT(args.dim, 0);
  MOLE_CHECK(args.rows == 0 || (args.x != nullptr && args.delta != nullptr && args.sum != nullptr));
  MOLE_CHECK((args.y == nullptr) == (args.weight == nullptr));
  MOLE_CHECK(args.y != nullptr || args.inverse_rms == nullptr);
  auto rows = [&args, kernel = isa() >= Isa::kAvx512 ? avx512::add_rms_norm_rows
                                                     : avx2::add_rms_norm_rows](
                  int64_t begin, int64_t end) { kernel(args, begin, end); };
  team.parallel_for(args.rows, row_grain(args.dim), rows);
}

}  // namespace mole::kernels
