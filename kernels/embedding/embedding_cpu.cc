#include "kernels/cpu/simd.h"
#include "kernels/embedding/embedding_impl.h"

namespace mole::kernels::MOLE_ISA {
namespace {

template <typename T>
void add(const T* from, float* to, int64_t count) {
  for (int64_t i = 0; i < count; i += 16) {
    const int64_t lanes = count - i;
    store_part16(to + i, add16(load_part16(to + i, lanes), load_part16(from + i, lanes)), lanes);
  }
}

}  // namespace

void add_row(const void* from, DType dtype, float* to, int64_t count) {
  if (dtype == DType::kBFloat16) return add(static_cast<const BFloat16*>(from), to, count);
  add(static_cast<const float*>(from), to, count);
}

}  // namespace mole::kernels::MOLE_ISA
