#include "kernels/kv_entry/kv_entry.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/kv_entry/kv_entry_rows.h"

namespace mole::kernels {
namespace {

// Rows that a thread takes together: some microseconds of work.
constexpr int64_t kGrain = 16;

void check(const KvEntryShape& entry) {
  MOLE_CHECK(entry.dtype == DType::kFloat32 || entry.dtype == DType::kBFloat16);
  MOLE_CHECK_GT(entry.latent, 0);
  MOLE_CHECK_GE(entry.rope, 0);
}

void check(const KvReadArgs& args) {
  check(args.entry);
  MOLE_CHECK_GE(args.num_rows, 0);
  MOLE_CHECK_GE(args.columns, 0);
  MOLE_CHECK_LE(args.columns, args.entry.latent + args.entry.rope);
  MOLE_CHECK(args.entry_stride == 0 || args.entry_stride >= args.entry.bytes());
  MOLE_CHECK(args.num_rows == 0 || (args.blocks != nullptr && args.out != nullptr));
}

/// Rows [begin, end) of one sequence.
void read_rows(const KvReadArgs& args, int64_t begin, int64_t end) {
  const auto decode = isa() >= Isa::kAvx512 ? avx512::kv_decode : avx2::kv_decode;
  const int64_t stride = args.entry_stride == 0 ? args.entry.bytes() : args.entry_stride;
  const int64_t row_bytes = args.out_stride * dtype_bytes(args.entry.dtype);
  for (int64_t row = begin; row < end; ++row) {
    const auto* block = static_cast<const std::byte*>(args.blocks[row / kKvPageTokens]);
    decode(args.entry, block + row % kKvPageTokens * stride, args.columns,
           static_cast<std::byte*>(args.out) + row * row_bytes);
  }
}

}  // namespace

void kv_write(const KvWriteArgs& args, ThreadTeam& team) {
  check(args.entry);
  MOLE_CHECK_GE(args.num_rows, 0);
  if (args.num_rows == 0) return;
  MOLE_CHECK(args.rows != nullptr && args.slots != nullptr && args.pages != nullptr);
  const auto encode = isa() >= Isa::kAvx512 ? avx512::kv_encode : avx2::kv_encode;
  const int64_t bytes = args.entry.bytes();
  const int64_t row_bytes = args.row_stride * dtype_bytes(args.entry.dtype);
  auto rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      if (args.slots[row] < 0) continue;
      encode(args.entry, static_cast<const std::byte*>(args.rows) + row * row_bytes,
             args.pages + args.slots[row] * bytes);
    }
  };
  team.parallel_for(args.num_rows, kGrain, rows);
}

void kv_read(const KvReadArgs* sequences, int64_t num_sequences, ThreadTeam& team) {
  int64_t total = 0;
  for (int64_t s = 0; s < num_sequences; ++s) {
    check(sequences[s]);
    total += sequences[s].num_rows;
  }
  auto rows = [&](int64_t begin, int64_t end) {
    int64_t base = 0;
    for (int64_t s = 0; s < num_sequences && base < end; base += sequences[s++].num_rows) {
      const int64_t from = std::max(begin - base, int64_t{0});
      const int64_t to = std::min(end - base, sequences[s].num_rows);
      if (from < to) read_rows(sequences[s], from, to);
    }
  };
  team.parallel_for(total, kGrain, rows);
}

}  // namespace mole::kernels
