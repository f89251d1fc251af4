#include "kernels/embedding/embedding.h"

#include <cstddef>
#include <cstring>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/embedding/embedding_impl.h"

namespace mole::kernels {

void embedding(const void* table, DType dtype, const TokenId* ids, int64_t tokens, int64_t dim,
               void* y, ThreadTeam& team) {
  MOLE_CHECK_GE(tokens, 0);
  MOLE_CHECK_GE(dim, 0);
  const int64_t row_bytes = dim * dtype_bytes(dtype);
  auto part = [&](int64_t begin, int64_t end) {
    const auto* from = static_cast<const std::byte*>(table);
    auto* to = static_cast<std::byte*>(y);
    for (int64_t t = begin; t < end; ++t) {
      std::memcpy(to + t * row_bytes, from + int64_t{ids[t]} * row_bytes,
                  static_cast<std::size_t>(row_bytes));
    }
  };
  // A thread takes at least 32 KiB, or the region costs more than the copy.
  team.parallel_for(tokens, 1 + (int64_t{32} << 10) / (row_bytes + 1), part);
}

void embedding_backward(const void* dy, DType dtype, const TokenId* ids, int64_t tokens,
                        int64_t vocab, int64_t dim, float* dtable, ThreadTeam& team) {
  MOLE_CHECK(dtype == DType::kFloat32 || dtype == DType::kBFloat16);
  MOLE_CHECK_GE(tokens, 0);
  for (int64_t t = 0; t < tokens; ++t) {
    MOLE_CHECK_GE(ids[t], 0);
    MOLE_CHECK_LT(ids[t], vocab);
  }
  const auto add_row = isa() == Isa::kAvx2 ? avx2::add_row : avx512::add_row;
  // Threads split the columns, so that a token that occurs twice is added in order.
  auto part = [&](int64_t begin, int64_t end) {
    const auto* from = static_cast<const std::byte*>(dy);
    for (int64_t t = 0; t < tokens; ++t) {
      add_row(from + (t * dim + begin) * dtype_bytes(dtype), dtype, dtable + ids[t] * dim + begin,
              end - begin);
    }
  };
  team.parallel_for(dim, 64, part);
}

}  // namespace mole::kernels
