// The parts of kv_entry that are compiled once per instruction set; kv_entry.cc chooses, and
// attention decodes pages with them. The calling thread must flush denormals (a ThreadTeam's does).
#pragma once

#include "kernels/kv_entry/kv_entry.h"

namespace mole::kernels::avx2 {
void kv_encode(const KvEntryShape& shape, const void* row, std::byte* entry);
void kv_decode(const KvEntryShape& shape, const std::byte* entry, int64_t columns, void* out);
void kv_decode_rows(const KvEntryShape& shape, const std::byte* entries, int64_t rows,
                    int64_t columns, BFloat16* out, int64_t out_stride);
}  // namespace mole::kernels::avx2

namespace mole::kernels::avx512 {
/// One row of latent + rope numbers to an entry.
void kv_encode(const KvEntryShape& shape, const void* row, std::byte* entry);
/// The first `columns` numbers of an entry, in the model's dtype.
void kv_decode(const KvEntryShape& shape, const std::byte* entry, int64_t columns, void* out);
/// The first `columns` numbers of `rows` entries that lie one after the other; `out_stride` in
/// elements. bfloat16 only.
void kv_decode_rows(const KvEntryShape& shape, const std::byte* entries, int64_t rows,
                    int64_t columns, BFloat16* out, int64_t out_stride);
}  // namespace mole::kernels::avx512

namespace mole::kernels::avx512bf16 {
/// Whether this processor has what the next two need: AVX512-BF16 and AVX512-VBMI.
bool decodes_by_table();
/// `count` codes, a multiple of 32, times `scale`. int8 codes are -127 to 127, as they are written.
void decode_int8(const uint8_t* codes, int64_t count, float scale, BFloat16* out);
void decode_e4m3(const uint8_t* codes, int64_t count, float scale, BFloat16* out);
/// kv_decode_rows of compressed entries whose latent is a multiple of 128: without calls a row.
void decode_rows(const KvEntryShape& shape, const std::byte* entries, int64_t rows, int64_t columns,
                 BFloat16* out, int64_t out_stride);
}  // namespace mole::kernels::avx512bf16
