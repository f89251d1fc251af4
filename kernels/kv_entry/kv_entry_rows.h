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

namespace mole::kernels::avx512bf16 {
/// Whether this processor has what the next two need: AVX512-BF16 and AVX512-VBMI.
bool decodes_by_table();
/// `count` codes, a multiple of 32, times `scale`. int8 codes are -127 to 127, as they are written.
void decode_int8(const uint8_t* codes, int64_t count, float scale, BFloat16* out);
void decode_e4m3(const uint8_t* codes, int64_t count, float scale, BFloat16* out);
}  // namespace mole::kernels::avx512bf16
