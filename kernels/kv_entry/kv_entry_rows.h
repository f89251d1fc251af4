// The parts of kv_entry that are compiled once per instruction set; kv_entry.cc chooses, and
// attention decodes pages with them. The calling thread must flush denormals (a ThreadTeam's does).
#pragma once

#include "kernels/kv_entry/kv_entry.h"

namespace mole::kernels::avx2 {
void kv_encode(const KvEntryShape& shape, const void* row, std::byte* entry);
void kv_decode(const KvEntryShape& shape, const std::byte* entry, int64_t columns, void* out);
}  // namespace mole::kernels::avx2

namespace mole::kernels::avx512 {
/// One row of latent + rope numbers to an entry.
void kv_encode(const KvEntryShape& shape, const void* row, std::byte* entry);
/// The first `columns` numbers of an entry, in the model's dtype.
void kv_decode(const KvEntryShape& shape, const std::byte* entry, int64_t columns, void* out);
}  // namespace mole::kernels::avx512
