// Packing of codes: see quantized_impl.h for the order. Every format turns tiles of 16 rows by 64
// codes (16 words) over their diagonal, which brings quads of k together; the narrow ones then move
// bytes within each 16.
#include <algorithm>
#include <cstring>

#include "kernels/cpu/transpose.h"
#include "kernels/linear/pack_quantized.h"

namespace mole::kernels::MOLE_ISA {
namespace {

using Tile = std::byte[kInt8Tile];  // [16 rows][64 k], or turned [16 quads of k][16 rows][4]

/// 32 bytes to 64 codes, the low half of a byte first.
void unpack_nibbles(const std::byte* from, std::byte* to) {
  const __m128i mask = _mm_set1_epi8(15);
  for (int i = 0; i < 32; i += 16) {
    const __m128i pairs = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i));
    const __m128i low = _mm_and_si128(pairs, mask);
    const __m128i high = _mm_and_si128(_mm_srli_epi16(pairs, 4), mask);
    auto* out = reinterpret_cast<__m128i*>(to + 2 * i);
    _mm_storeu_si128(out, _mm_unpacklo_epi8(low, high));
    _mm_storeu_si128(out + 1, _mm_unpackhi_epi8(low, high));
  }
}

/// Codes k0 … k0 + 63 of the panel's rows, what doesn't exist being zero.
void gather_tile(const QuantizedPanel& panel, int64_t k0, Tile& tile) {
  const bool nibbles = panel.format == WeightFormat::kInt4;
  const int64_t depth = std::clamp<int64_t>(panel.k - k0, 0, kInt8TileK);
  const int64_t bytes = code_row_bytes(panel.format, depth);
  for (int64_t r = 0; r < kPanel; ++r) {
    std::byte* to = tile + r * kInt8TileK;
    const bool whole = panel.codes[r] != nullptr && depth == kInt8TileK;
    const std::byte* from =
        panel.codes[r] == nullptr ? nullptr : panel.codes[r] + code_row_bytes(panel.format, k0);
    if (whole && !nibbles) {
      std::memcpy(to, from, kInt8TileK);
      continue;
    }
    std::byte line[kInt8TileK];
    std::fill(line, line + kInt8TileK, std::byte(nibbles ? 0x88 : 0));
    if (from != nullptr && bytes > 0) std::memcpy(line, from, static_cast<std::size_t>(bytes));
    nibbles ? unpack_nibbles(line, to) : static_cast<void>(std::memcpy(to, line, kInt8TileK));
  }
}

/// Of each 16 bytes (four rows' quads of k): first all pairs k0 k1, then all pairs k2 k3.
inline __m128i part_pairs(__m128i quads) {
  return _mm_shuffle_epi8(quads,
                          _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
}

inline __m128i load_codes(const std::byte* p) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
}
inline void store_codes(std::byte* p, __m128i codes) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), codes);
}

/// A turned tile to 8-bit codes as narrow_place has them.
void store_narrow(WeightFormat format, const Tile& turned, std::byte* out) {
  const __m128i sign = _mm_set1_epi8(static_cast<char>(0x80));
  for (int64_t i = 0; i < kInt8Tile; i += 16) {
    __m128i codes = load_codes(turned + i);
    if (format == WeightFormat::kInt8A16) {  // sign and magnitude, as narrow_code says
      codes = _mm_or_si128(_mm_abs_epi8(codes), _mm_and_si128(codes, sign));
    }
    store_codes(out + i, part_pairs(codes));
  }
}

/// A turned tile to 4-bit codes as nibble_place has them: 512 bytes.
void store_nibbles(const Tile& turned, std::byte* out) {
  for (int64_t line = 0; line < kInt8Tile; line += 128, out += 64) {
    for (int64_t i = 0; i < 64; i += 16) {
      const __m128i low = part_pairs(load_codes(turned + line + i));
      const __m128i high = part_pairs(load_codes(turned + line + 64 + i));
      store_codes(out + i, _mm_or_si128(low, _mm_slli_epi16(high, 4)));
    }
  }
}

void store_scales(const QuantizedPanel& panel, int64_t column, std::byte* out) {
  for (int64_t r = 0; r < kPanel; ++r) {
    float scale = 0;
    if (panel.scales[r] != nullptr) {
      std::memcpy(&scale, panel.scales[r] + 4 * column, sizeof(scale));
    }
    std::memcpy(out + 4 * r, &scale, sizeof(scale));
  }
}

/// One tile of 64 k; returns where the next goes.
std::byte* pack_tile(const QuantizedPanel& panel, int64_t k0, std::byte* out) {
  alignas(64) Tile tile;
  gather_tile(panel, k0, tile);
  if (int8_activations(panel.format)) {
    transpose16(tile, kInt8TileK, reinterpret_cast<uint32_t*>(out));
    return out + kInt8Tile;
  }
  alignas(64) Tile turned;
  transpose16(tile, kInt8TileK, reinterpret_cast<uint32_t*>(turned));
  if (panel.format == WeightFormat::kInt4) {
    store_nibbles(turned, out);
    return out + kInt8Tile / 2;
  }
  store_narrow(panel.format, turned, out);
  return out + kInt8Tile;
}

}  // namespace

void pack_quantized_panel(const QuantizedPanel& panel, std::byte* out) {
  if (panel.format == WeightFormat::kInt8) {
    for (int64_t k0 = 0; k0 < panel.k; k0 += kInt8TileK) out = pack_tile(panel, k0, out);
    store_scales(panel, 0, out);
    return;
  }
  for (int64_t k0 = 0, g = 0; k0 < panel.k; k0 += kGroupK, ++g) {
    out = pack_tile(panel, k0, out);
    out = pack_tile(panel, k0 + kInt8TileK, out);
    store_scales(panel, g, out);
    out += kScaleBytes;
  }
}

}  // namespace mole::kernels::MOLE_ISA
