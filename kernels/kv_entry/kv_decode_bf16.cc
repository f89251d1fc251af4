// Codes to bfloat16 by a table: a code has a sign and seven bits of magnitude, so a group of one
// scale has 128 decoded magnitudes. They are made with AVX512-BF16's conversion, which rounds as
// store16 does, and looked up sixty-four at a time with AVX512-VBMI: half of the instructions that
// converting and scaling every code takes.
#include <immintrin.h>

#include "kernels/kv_entry/kv_entry_rows.h"

namespace mole::kernels::avx512bf16 {
namespace {

constexpr int kMagnitudes = 128;
struct alignas(64) Magnitudes {
  float value[kMagnitudes] = {};
};

constexpr Magnitudes int8_magnitudes() {
  Magnitudes out;
  for (int i = 0; i < kMagnitudes; ++i) out.value[i] = static_cast<float>(i);
  return out;
}
/// e4m3fn: below the least normal number steps of 2^-9, then eight for each power of two.
constexpr Magnitudes e4m3_magnitudes() {
  Magnitudes out;
  float step = 1.0f / 512.0f;
  for (int i = 0; i < kMagnitudes; ++i) {
    if (i >= 16 && i % 8 == 0) step *= 2.0f;
    out.value[i] = step * static_cast<float>(i < 8 ? i : 8 + i % 8);
  }
  return out;
}
constexpr Magnitudes kInt8 = int8_magnitudes(), kE4m3 = e4m3_magnitudes();

/// Lower and upper bytes of the decoded magnitudes.
struct Table {
  __m512i low[2], high[2];
};

/// Words of 32 magnitudes times `scale`. Products are flushed before they are converted, so that
/// the conversion sees no denormal.
__m512i scaled_words(const float* magnitudes, __m512 scale) {
  const __m512 first = _mm512_mul_ps(_mm512_load_ps(magnitudes), scale);
  const __m512 second = _mm512_mul_ps(_mm512_load_ps(magnitudes + 16), scale);
  const __m512bh rounded = _mm512_cvtne2ps_pbh(second, first);
  return reinterpret_cast<const __m512i&>(rounded);
}

struct alignas(64) ByteOrder {
  uint8_t even[64] = {}, odd[64] = {};
};
constexpr ByteOrder byte_order() {
  ByteOrder out;
  for (uint8_t i = 0; i < 64; ++i) {
    out.even[i] = static_cast<uint8_t>(2 * i);
    out.odd[i] = static_cast<uint8_t>(2 * i + 1);
  }
  return out;
}
constexpr ByteOrder kByteOrder = byte_order();

Table make_table(const Magnitudes& magnitudes, float scale) {
  const __m512 factor = _mm512_set1_ps(scale);
  const __m512i even = _mm512_load_si512(kByteOrder.even);
  const __m512i odd = _mm512_load_si512(kByteOrder.odd);
  Table out;
  for (int half = 0; half < 2; ++half) {
    const float* from = magnitudes.value + 64 * half;
    const __m512i first = scaled_words(from, factor), second = scaled_words(from + 32, factor);
    out.low[half] = _mm512_permutex2var_epi8(first, even, second);
    out.high[half] = _mm512_permutex2var_epi8(first, odd, second);
  }
  return out;
}

/// Decodes `count` codes, a multiple of 32. `magnitude` gives what to look up, in bits 0 to 6.
template <typename Magnitude>
void decode(const Table& table, const uint8_t* codes, int64_t count, BFloat16* out,
            Magnitude magnitude) {
  // So that unpacking bytes lane by lane leaves words in order.
  const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);
  const __m512i sign_bit = _mm512_set1_epi8(static_cast<char>(0x80));
  for (int64_t i = 0; i < count; i += 64) {
    const bool whole = count - i >= 64;
    const __m512i loaded = _mm512_maskz_loadu_epi8(whole ? ~0ull : 0xffffffffull, codes + i);
    const __m512i code = _mm512_permutexvar_epi64(order, loaded);
    const __m512i index = magnitude(code);
    const __m512i low = _mm512_permutex2var_epi8(table.low[0], index, table.low[1]);
    const __m512i size = _mm512_permutex2var_epi8(table.high[0], index, table.high[1]);
    const __m512i high = _mm512_ternarylogic_epi64(size, code, sign_bit, 0x78);  // a ^ (b & c)
    _mm512_storeu_si512(out + i, _mm512_unpacklo_epi8(low, high));
    if (whole) _mm512_storeu_si512(out + i + 32, _mm512_unpackhi_epi8(low, high));
  }
}

}  // namespace

bool decodes_by_table() {
  static const bool available =
      __builtin_cpu_supports("avx512bf16") != 0 && __builtin_cpu_supports("avx512vbmi") != 0;
  return available;
}

void decode_int8(const uint8_t* codes, int64_t count, float scale, BFloat16* out) {
  decode(make_table(kInt8, scale), codes, count, out,
         [](__m512i code) { return _mm512_abs_epi8(code); });
}

void decode_e4m3(const uint8_t* codes, int64_t count, float scale, BFloat16* out) {
  decode(make_table(kE4m3, scale), codes, count, out, [](__m512i code) { return code; });
}

void decode_rows(const KvEntryShape& shape, const std::byte* entries, int64_t rows, int64_t columns,
                 BFloat16* out, int64_t out_stride) {
  const bool int8 = shape.format == KvFormat::kInt8;
  const int64_t latent = shape.latent, group = int8 ? latent : kKvFp8Group;
  const int64_t bytes = shape.bytes(), scales_at = shape.scales_offset();
  const int64_t rope_at = shape.rope_offset();
  for (int64_t row = 0; row < rows; ++row, entries += bytes, out += out_stride) {
    const auto* codes = reinterpret_cast<const uint8_t*>(entries);
    const std::byte* scales = entries + scales_at;
    for (int64_t i = 0; i < latent; i += group, scales += sizeof(float)) {
      float scale;
      __builtin_memcpy(&scale, scales, sizeof(scale));
      if (int8) {
        decode_int8(codes + i, group, scale, out + i);
      } else {
        decode_e4m3(codes + i, group, scale, out + i);
      }
    }
    const auto* rope = reinterpret_cast<const BFloat16*>(entries + rope_at);
    for (int64_t i = latent; i < columns; i += 32, rope += 32) {
      const int64_t left = columns - i;
      const auto mask = static_cast<__mmask32>(left >= 32 ? ~0u : (1u << left) - 1);
      _mm512_mask_storeu_epi16(out + i, mask, _mm512_maskz_loadu_epi16(mask, rope));
    }
  }
}

}  // namespace mole::kernels::avx512bf16
