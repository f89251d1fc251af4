#include "kernels/silu_mul/silu_mul.h"

#include <cstddef>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/silu_mul/silu_mul_impl.h"

namespace mole::kernels {
namespace {

// Rows a thread takes at least: some thousand elements, or the region costs more than the work.
int64_t row_grain(int64_t width) { return 1 + 4096 / (width + 1); }

bool is_float(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

void validate(const SiluMulArgs& args) {
  MOLE_CHECK_GE(args.rows, 0);
  MOLE_CHECK_GE(args.width, 0);
  MOLE_CHECK(is_float(args.in_dtype) && is_float(args.out_dtype));
}

/// Row `row` of a [rows, columns] matrix.
const void* row_of(const void* data, DType dtype, int64_t row, int64_t columns) {
  return static_cast<const std::byte*>(data) + row * columns * dtype_bytes(dtype);
}
void* row_of(void* data, DType dtype, int64_t row, int64_t columns) {
  return static_cast<std::byte*>(data) + row * columns * dtype_bytes(dtype);
}

}  // namespace

void silu_mul_row(const SiluMulRow& row) {
  isa() == Isa::kAvx2 ? avx2::silu_mul_row(row) : avx512::silu_mul_row(row);
}

void silu_mul_backward_row(const SiluMulRow& row) {
  isa() == Isa::kAvx2 ? avx2::silu_mul_backward_row(row) : avx512::silu_mul_backward_row(row);
}

void silu_mul(const SiluMulArgs& args, ThreadTeam& team) {
  validate(args);
  auto part = [&](int64_t begin, int64_t end) {
    SiluMulRow row{.in_dtype = args.in_dtype, .width = args.width, .out_dtype = args.out_dtype};
    for (int64_t r = begin; r < end; ++r) {
      row.gate_up = row_of(args.gate_up, args.in_dtype, r, 2 * args.width);
      row.y = row_of(args.y, args.out_dtype, r, args.width);
      silu_mul_row(row);
    }
  };
  team.parallel_for(args.rows, row_grain(args.width), part);
}

void silu_mul_backward(const SiluMulBackwardArgs& args, ThreadTeam& team) {
  const SiluMulArgs& forward = args.forward;
  validate(forward);
  auto part = [&](int64_t begin, int64_t end) {
    SiluMulRow row{
        .in_dtype = forward.in_dtype, .width = forward.width, .out_dtype = forward.out_dtype};
    for (int64_t r = begin; r < end; ++r) {
      row.gate_up = row_of(forward.gate_up, forward.in_dtype, r, 2 * forward.width);
      row.dy = args.dy + r * forward.width;
      row.dgate_up = row_of(args.dgate_up, forward.out_dtype, r, 2 * forward.width);
      silu_mul_backward_row(row);
    }
  };
  team.parallel_for(forward.rows, row_grain(forward.width), part);
}

}  // namespace mole::kernels
