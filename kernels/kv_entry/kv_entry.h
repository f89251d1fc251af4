// One token's entry in the cache of latent attention, [latent | rotary key], in three formats; how
// rows get into pages and back. A page holds kKvPageTokens consecutive entries of one layer.
//
// Byte layout of an entry (offsets from its first byte; every part begins at a multiple of 4 in the
// compressed formats, and the entry's size is one):
//   kModel  latent [latent] dtype | rope [rope] dtype: the model's own numbers, unchanged
//   kInt8   latent [latent] int8, to a multiple of 4 | scale float32 | rope [rope] dtype
//   kFp8    latent [latent] e4m3fn, to a multiple of 4 | scales float32, one for each 128 of the
//           latent | rope [rope] dtype. With 512 + 64 bfloat16 these are the 656 bytes of
//           DeepSeek's FlashMLA (docs/20250929-hopper-fp8-sparse-deep-dive.md there).
// Padding bytes are zero. The rotary part carries position and stays exact.
//
// Numerics, all in float32, one rounding an operation, nearest even; the same bits on every
// instruction set. A group is the whole latent (kInt8) or 128 numbers of it (kFp8; the last may be
// shorter); top is 127 or 448.
//   largest = max |x| over the group; scale = largest / top; code = round(x * (top / largest)), to
//   an integer or to e4m3fn; decoded = code * scale, rounded to dtype.
// A group whose largest is below 2^-100 is stored as zeros with scale 0. A group with a NaN or an
// infinity gets a scale of NaN and decodes to NaN, so that a broken activation stays visible.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

enum class KvFormat : uint8_t { kModel, kInt8, kFp8 };

inline constexpr int64_t kKvPageTokens = 64;
inline constexpr int64_t kKvFp8Group = 128;

/// The name that users read and write: "model", "int8", "fp8".
constexpr std::string_view kv_format_name(KvFormat format) {
  switch (format) {
    case KvFormat::kModel:
      return "model";
    case KvFormat::kInt8:
      return "int8";
    case KvFormat::kFp8:
      return "fp8";
  }
  return "unknown";
}

/// What an entry holds, and where.
struct KvEntryShape {
  KvFormat format = KvFormat::kModel;
  DType dtype = DType::kFloat32;  // of the model: float32 or bfloat16
  int64_t latent = 0;             // numbers; at least 1
  int64_t rope = 0;               // numbers; may be 0

  constexpr int64_t num_scales() const {
    if (format == KvFormat::kModel) return 0;
    return format == KvFormat::kInt8 ? 1 : (latent + kKvFp8Group - 1) / kKvFp8Group;
  }
  constexpr int64_t scales_offset() const { return (latent + 3) / 4 * 4; }  // compressed formats
  constexpr int64_t rope_offset() const {
    if (format == KvFormat::kModel) return latent * dtype_bytes(dtype);
    return scales_offset() + 4 * num_scales();
  }
  constexpr int64_t bytes() const {
    const int64_t end = rope_offset() + rope * dtype_bytes(dtype);
    return format == KvFormat::kModel ? end : (end + 3) / 4 * 4;
  }
};

/// Bytes of one entry.
constexpr int64_t kv_entry_bytes(KvFormat format, DType dtype, int64_t latent, int64_t rope) {
  return KvEntryShape{format, dtype, latent, rope}.bytes();
}
static_assert(kv_entry_bytes(KvFormat::kModel, DType::kBFloat16, 512, 64) == 1152);
static_assert(kv_entry_bytes(KvFormat::kInt8, DType::kBFloat16, 512, 64) == 644);
static_assert(kv_entry_bytes(KvFormat::kFp8, DType::kBFloat16, 512, 64) == 656);

/// Rows into slots of one layer's pages.
struct KvWriteArgs {
  KvEntryShape entry;
  const void* rows = nullptr;  // [num_rows, latent + rope] dtype
  int64_t num_rows = 0;
  int64_t row_stride = 0;          // elements
  const int64_t* slots = nullptr;  // [num_rows]: page * kKvPageTokens + place in it; -1 = skip
  std::byte* pages = nullptr;      // slot s begins at pages + s * entry.bytes()
};

/// Encodes and stores. Slots are distinct. Aliasing: `pages` doesn't overlap `rows`. Thread: as
/// ThreadTeam's. Cost: reads the rows once, writes num_rows entries.
void kv_write(const KvWriteArgs& args, ThreadTeam& team);

/// Entries of one sequence, back to rows of the model's dtype.
struct KvReadArgs {
  KvEntryShape entry;
  const void* const* blocks = nullptr;  // first byte of the entries of positions 0, 64, …
  int64_t entry_stride = 0;             // bytes between entries of a block; 0 = entry.bytes()
  int64_t num_rows = 0;                 // positions [0, num_rows)
  int64_t columns = 0;                  // the first numbers of an entry: at most latent + rope
  void* out = nullptr;                  // [num_rows, columns] dtype
  int64_t out_stride = 0;               // elements
};

/// Decodes all sequences' entries in one parallel region. Aliasing: no `out` overlaps a block.
/// Nothing past num_rows is read. Thread: as ThreadTeam's. Cost: reads each entry once.
void kv_read(const KvReadArgs* sequences, int64_t num_sequences, ThreadTeam& team);

/// One row both ways, slow and plain: what the kernels are held against. `row` and `decoded` hold
/// latent + rope numbers, `entry` bytes().
void kv_encode_ref(const KvEntryShape& shape, const float* row, std::byte* entry);
void kv_decode_ref(const KvEntryShape& shape, const std::byte* entry, float* decoded);

}  // namespace mole::kernels
