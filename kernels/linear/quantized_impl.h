// What the files of quantised weights share: packed layouts and the functions of each instruction
// set. Plain types only, as it is compiled for several.
//
// A packed panel is 16 outputs by K, K padded with zeros:
//  kInt8: tiles of 64 k, 1 KiB each ([16 quads of k][16 n][4], the B operand of TDPBSSD), then 16
//    scales.
//  The others: groups of 128 k, each its codes and then 16 scales. kInt8Group: two such tiles.
//    kInt8A16, kFp8: 2 KiB of 8-bit codes, kInt4: 1 KiB of 4-bit codes, in the order of four
//    bfloat16 tiles of 32 k (linear.h) whose rows are shuffled so that unpacking restores them: see
//    narrow_place and nibble_place.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/linear/linear_impl.h"
#include "kernels/linear/quantize.h"
#include "kernels/linear/weight_format.h"

namespace mole::kernels {

inline constexpr int64_t kInt8TileK = 64;                    // k of an int8 tile
inline constexpr int64_t kInt8Tile = kInt8TileK * kPanel;    // bytes
inline constexpr int64_t kScaleBytes = kPanel * 4;           // of one panel's scales
inline constexpr int64_t kGroupElements = kGroupK * kPanel;  // of one panel and group

/// Bytes of the codes of one panel and group of 128 k.
constexpr int64_t group_code_bytes(WeightFormat format) {
  return format == WeightFormat::kInt4 ? kGroupElements / 2 : kGroupElements;
}
constexpr int64_t quantized_panel_bytes(WeightFormat format, int64_t k) {
  if (format == WeightFormat::kInt8) return ceil_div(k, kInt8TileK) * kInt8Tile + kScaleBytes;
  return ceil_div(k, kGroupK) * (group_code_bytes(format) + kScaleBytes);
}

/// Where the 8-bit code of element (k, n) of a group lies. Two rows of a bfloat16 tile (pairs 2 q
/// and 2 q + 1, 32 values each) share 64 bytes: 8 values of the one, 8 of the other, in turn, which
/// is what byte unpacking within 128-bit lanes wants.
constexpr int64_t narrow_place(int64_t k, int64_t n) {
  const int64_t row = k / 2, element = 2 * n + k % 2;
  return row / 2 * 64 + element / 8 * 16 + row % 2 * 8 + element % 8;
}
/// Where the 4-bit code lies: byte and half. Of 64 bytes the low halves make the codes of two tile
/// rows as above, the high halves those of the next two.
constexpr int64_t nibble_place(int64_t k, int64_t n) {
  const int64_t place = narrow_place(k, n);
  return place / 128 * 64 + place % 64;
}
constexpr bool nibble_high(int64_t k, int64_t n) { return narrow_place(k, n) / 64 % 2 == 1; }

/// The code as it is packed: int8 as sign and magnitude, so that both 8-bit formats are a sign and
/// an index below 128.
constexpr uint8_t narrow_code(WeightFormat format, uint8_t code) {
  if (format != WeightFormat::kInt8A16 || code < 128) return code;
  return static_cast<uint8_t>(0x80 | (256 - code));
}
/// The bfloat16 bits of the magnitude that a code's lower 7 bits stand for; exact. For e4m3 times
/// one, for int8 the integer.
uint16_t narrow_magnitude(WeightFormat format, uint8_t magnitude);
/// e4m3's value.
float e4m3_value(uint8_t code);

/// Rows of x as int8, each with zeros after the last k up to the padded K: one after the other, or
/// (for AMX) in tiles of 64 k, blocks of 16 rows each a run of tiles, as the bfloat16 rows of
/// linear_impl.h.
struct Int8Rows {
  int8_t* codes = nullptr;
  int64_t stride = 0;       // bytes from one row to the next; in tiles: of a row's share, so that
                            // 16 rows further on is 16 strides
  int64_t tile_rows = 0;    // rows of a tile, 1 … 16; 0 = no tiles
  int64_t padded = 0;       // codes of a row, a multiple of 128
  int64_t run = 0;          // k that share a scale: padded, or 128
  int64_t runs = 0;         // of them in a row
  float* scales = nullptr;  // [rows][runs]; NaN where a value is not finite
  int32_t* sums = nullptr;  // [rows][runs] of the codes
};

namespace avx2 {
void quantize_rows(const LinearArgs& args, int64_t row, int64_t count, const Int8Rows& out);
/// One weight row of int8 codes; false if a value is not finite.
bool quantize_int8(const BFloat16* x, int64_t k, int8_t* codes, float* scale);
void linear_int8(const LinearArgs& args, const LinearPart& part);
void linear_narrow(const LinearArgs& args, const LinearPart& part);
}  // namespace avx2
namespace avx512 {
void quantize_rows(const LinearArgs& args, int64_t row, int64_t count, const Int8Rows& out);
bool quantize_int8(const BFloat16* x, int64_t k, int8_t* codes, float* scale);
void linear_int8(const LinearArgs& args, const LinearPart& part);
void linear_narrow(const LinearArgs& args, const LinearPart& part);
}  // namespace avx512
/// With AVX-512 VNNI and VBMI, and with AMX-INT8 besides.
void linear_int8_vnni(const LinearArgs& args, const LinearPart& part);
void linear_int8_amx(const LinearArgs& args, const LinearPart& part);
void linear_narrow_amx(const LinearArgs& args, const LinearPart& part);

/// linear_pairs (linear_impl.h) for kInt8.
void linear_pairs_int8_amx(const LinearArgs& args, const PanelPairs& pairs, const PairSink& sink);

/// Whether the kernels that need AVX-512 VNNI and VBMI may run.
bool has_vnni();
/// Whether AMX multiplies an int8 weight: not by a part's rows, because rows are laid out for it.
bool int8_by_tiles(const LinearArgs& args);

/// Memory that `count` rows of x take as codes for an int8 weight (in tiles, if AMX multiplies the
/// product), and the rows in it. A product whose rows were rounded for all threads (pack_all_rows)
/// has it in x_tiles.
int64_t int8_rows_bytes(const LinearArgs& args, int64_t count);
Int8Rows int8_rows_at(const LinearArgs& args, int64_t count, std::byte* memory);
/// Rows [row, row + count) of x, rounded by this instruction set, to the rows `first` … of `out`.
void round_rows(const LinearArgs& args, int64_t row, int64_t count, int64_t first,
                const Int8Rows& out);

/// The rows of a part's x, turn by turn.
class Int8Turns {
 public:
  /// At most `most` rows a turn. `spare` bytes besides are the caller's.
  Int8Turns(const LinearArgs& args, const LinearPart& part, int64_t most, int64_t spare = 0);
  std::byte* spare() const { return spare_; }
  int64_t rows() const { return turn_; }  // of a turn
  /// Rows [row, row + count), the first being row 0 of what is returned.
  Int8Rows take(int64_t row, int64_t count) const;

 private:
  const LinearArgs& args_;
  int64_t turn_;
  std::byte* spare_;
  Int8Rows rows_;
};

/// linear_part for every format but kPlain.
void linear_quantized(const LinearArgs& args, const LinearPart& part);

}  // namespace mole::kernels
