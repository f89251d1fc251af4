#include <cmath>
#include <cstring>

#include "kernels/cpu/lanes.h"
#include "kernels/kv_entry/codes.h"
#include "kernels/kv_entry/kv_entry_rows.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr float kLeast = 0x1p-100f;

/// Decodes the first numbers of a group by faster instructions, where there are some; returns how
/// many.
#if defined(__AVX512F__) && defined(__AVX512BW__)
using FastDecode = void (*)(const uint8_t*, int64_t, float, BFloat16*);
int64_t decode_fast(FastDecode decode, const uint8_t* codes, int64_t count, float scale,
                    BFloat16* out) {
  if (!avx512bf16::decodes_by_table()) return 0;
  decode(codes, count / 32 * 32, scale, out);
  return count / 32 * 32;
}
int64_t decode_fast(FastDecode, const uint8_t*, int64_t, float, float*) { return 0; }
constexpr FastDecode kFastInt8 = avx512bf16::decode_int8, kFastFp8 = avx512bf16::decode_e4m3;
#else
using FastDecode = void*;
template <typename T>
int64_t decode_fast(FastDecode, const uint8_t*, int64_t, float, T*) {
  return 0;
}
constexpr FastDecode kFastInt8 = nullptr, kFastFp8 = nullptr;
#endif

struct Int8Codes {
  static constexpr float kTop = 127.0f;
  static constexpr FastDecode kFast = kFastInt8;
  static void store(uint8_t* p, F32x16 x) { store_int8(p, x); }
  static F32x16 load(const uint8_t* p) { return load_int8(p); }
};
struct Fp8Codes {
  static constexpr float kTop = 448.0f;
  static constexpr FastDecode kFast = kFastFp8;
  static void store(uint8_t* p, F32x16 x) { store_e4m3(p, x); }
  static F32x16 load(const uint8_t* p) { return load_e4m3(p); }
};

/// The largest magnitude of a group, or NaN if one isn't finite.
template <typename T>
float largest_of(const T* x, int64_t count) {
  F32x16 most = zero16(), broken = zero16();
  for (int64_t i = 0; i < count; i += 16) {
    const F32x16 value = load_partial16(x + i, count - i);
    most = max16(most, max16(value, sub16(zero16(), value)));
    broken = fma16(value, zero16(), broken);  // infinity times zero is a NaN as well
  }
  return fold_max16(most) + fold_sum16(broken);
}

/// Codes of one group; returns its scale.
template <typename Codes, typename T>
float encode_group(const T* x, int64_t count, uint8_t* codes) {
  const float largest = largest_of(x, count);
  if (!(largest >= kLeast)) {  // a NaN too
    std::memset(codes, 0, static_cast<size_t>(count));
    return std::isnan(largest) ? __builtin_nanf("") : 0.0f;
  }
  const F32x16 factor = set16(Codes::kTop / largest);
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) Codes::store(codes + i, mul16(load16(x + i), factor));
  if (i < count) {
    uint8_t last[16];
    Codes::store(last, mul16(load_partial16(x + i, count - i), factor));
    std::memcpy(codes + i, last, static_cast<size_t>(count - i));
  }
  return largest / Codes::kTop;
}

template <typename Codes, typename T>
void decode_group(const uint8_t* codes, int64_t count, float scale, T* out) {
  const F32x16 factor = set16(scale);
  int64_t i = decode_fast(Codes::kFast, codes, count, scale, out);
  for (; i + 16 <= count; i += 16) store16(out + i, mul16(Codes::load(codes + i), factor));
  if (i < count) {
    uint8_t last[16] = {};
    std::memcpy(last, codes + i, static_cast<size_t>(count - i));
    store_partial16(out + i, mul16(Codes::load(last), factor), count - i);
  }
}

template <typename Codes, typename T>
void encode_row(const KvEntryShape& shape, int64_t group, const T* row, std::byte* entry) {
  auto* codes = reinterpret_cast<uint8_t*>(entry);
  std::byte* scales = entry + shape.scales_offset();
  std::memset(codes + shape.latent, 0, static_cast<size_t>(shape.scales_offset() - shape.latent));
  for (int64_t i = 0; i < shape.latent; i += group, scales += sizeof(float)) {
    const int64_t count = shape.latent - i < group ? shape.latent - i : group;
    const float scale = encode_group<Codes>(row + i, count, codes + i);
    std::memcpy(scales, &scale, sizeof(scale));
  }
  const int64_t end = shape.rope_offset() + shape.rope * static_cast<int64_t>(sizeof(T));
  std::memcpy(entry + shape.rope_offset(), row + shape.latent,
              static_cast<size_t>(end - shape.rope_offset()));
  std::memset(entry + end, 0, static_cast<size_t>(shape.bytes() - end));
}

template <typename Codes, typename T>
void decode_row(const KvEntryShape& shape, int64_t group, const std::byte* entry, int64_t columns,
                T* out) {
  const auto* codes = reinterpret_cast<const uint8_t*>(entry);
  const std::byte* scales = entry + shape.scales_offset();
  const int64_t latent = columns < shape.latent ? columns : shape.latent;
  for (int64_t i = 0; i < latent; i += group, scales += sizeof(float)) {
    float scale;
    std::memcpy(&scale, scales, sizeof(scale));
    decode_group<Codes>(codes + i, latent - i < group ? latent - i : group, scale, out + i);
  }
  if (columns <= shape.latent) return;
  std::memcpy(out + shape.latent, entry + shape.rope_offset(),
              static_cast<size_t>(columns - shape.latent) * sizeof(T));
}

template <typename T>
void encode(const KvEntryShape& shape, const void* row, std::byte* entry) {
  const T* from = static_cast<const T*>(row);
  if (shape.format == KvFormat::kInt8) {
    encode_row<Int8Codes>(shape, shape.latent, from, entry);
  } else {
    encode_row<Fp8Codes>(shape, kKvFp8Group, from, entry);
  }
}

template <typename T>
void decode(const KvEntryShape& shape, const std::byte* entry, int64_t columns, void* out) {
  T* to = static_cast<T*>(out);
  if (shape.format == KvFormat::kInt8) {
    decode_row<Int8Codes>(shape, shape.latent, entry, columns, to);
  } else {
    decode_row<Fp8Codes>(shape, kKvFp8Group, entry, columns, to);
  }
}

}  // namespace

void kv_encode(const KvEntryShape& shape, const void* row, std::byte* entry) {
  if (shape.format == KvFormat::kModel) {
    std::memcpy(entry, row, static_cast<size_t>(shape.bytes()));
  } else if (shape.dtype == DType::kBFloat16) {
    encode<BFloat16>(shape, row, entry);
  } else {
    encode<float>(shape, row, entry);
  }
}

void kv_decode(const KvEntryShape& shape, const std::byte* entry, int64_t columns, void* out) {
  if (shape.format == KvFormat::kModel) {
    std::memcpy(out, entry, static_cast<size_t>(columns * dtype_bytes(shape.dtype)));
  } else if (shape.dtype == DType::kBFloat16) {
    decode<BFloat16>(shape, entry, columns, out);
  } else {
    decode<float>(shape, entry, columns, out);
  }
}

void kv_decode_rows(const KvEntryShape& shape, const std::byte* entries, int64_t rows,
                    int64_t columns, BFloat16* out, int64_t out_stride) {
#if defined(__AVX512F__) && defined(__AVX512BW__)
  if (shape.format != KvFormat::kModel && shape.latent % kKvFp8Group == 0 &&
      columns >= shape.latent && avx512bf16::decodes_by_table()) {
    return avx512bf16::decode_rows(shape, entries, rows, columns, out, out_stride);
  }
#endif
  for (int64_t row = 0; row < rows; ++row) {
    kv_decode(shape, entries + row * shape.bytes(), columns, out + row * out_stride);
  }
}

}  // namespace mole::kernels::MOLE_ISA
