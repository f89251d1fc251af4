#include "kernels/torch/convert.h"

#include "kernels/cpu/simd.h"

namespace mole::kernels {

namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kSquare = 8;  // rows and columns of 16-bit elements transposed in registers

/// One 8 x 8 square of 16-bit elements: three rounds of interleaving.
void transpose_square(const uint16_t* x, int64_t x_stride, uint16_t* out, int64_t out_stride) {
  __m128i row[8], pair[8], quad[8];
  for (int i = 0; i < 8; ++i) {
    row[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i * x_stride));
  }
  for (int i = 0; i < 4; ++i) {
    pair[i] = _mm_unpacklo_epi16(row[2 * i], row[2 * i + 1]);      // columns 0-3 of rows 2i, 2i+1
    pair[i + 4] = _mm_unpackhi_epi16(row[2 * i], row[2 * i + 1]);  // columns 4-7
  }
  for (int i = 0; i < 2; ++i) {
    quad[i] = _mm_unpacklo_epi32(pair[2 * i], pair[2 * i + 1]);          // columns 0, 1
    quad[i + 2] = _mm_unpackhi_epi32(pair[2 * i], pair[2 * i + 1]);      // columns 2, 3
    quad[i + 4] = _mm_unpacklo_epi32(pair[2 * i + 4], pair[2 * i + 5]);  // columns 4, 5
    quad[i + 6] = _mm_unpackhi_epi32(pair[2 * i + 4], pair[2 * i + 5]);  // columns 6, 7
  }
  for (int i = 0; i < 4; ++i) {
    auto* low = reinterpret_cast<__m128i*>(out + 2 * i * out_stride);
    auto* high = reinterpret_cast<__m128i*>(out + (2 * i + 1) * out_stride);
    _mm_storeu_si128(low, _mm_unpacklo_epi64(quad[2 * i], quad[2 * i + 1]));
    _mm_storeu_si128(high, _mm_unpackhi_epi64(quad[2 * i], quad[2 * i + 1]));
  }
}

template <typename T>
void transpose_plain(const T* x, int64_t x_stride, int64_t rows, int64_t columns, T* out,
                     int64_t out_stride) {
  for (int64_t c = 0; c < columns; ++c) {
    for (int64_t r = 0; r < rows; ++r) out[c * out_stride + r] = x[r * x_stride + c];
  }
}

}  // namespace

void convert_row(const float* x, BFloat16* y, int64_t count) {
  using namespace MOLE_ISA;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store16(y + i, load16(x + i));
  for (; i < count; ++i) y[i] = to_bfloat16(x[i]);
}

void convert_row(const BFloat16* x, float* y, int64_t count) {
  using namespace MOLE_ISA;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store16(y + i, load16(x + i));
  for (; i < count; ++i) y[i] = to_float(x[i]);
}

void transpose_tile(const uint16_t* x, int64_t x_stride, int64_t rows, int64_t columns,
                    uint16_t* out, int64_t out_stride) {
  const int64_t whole_rows = rows / kSquare * kSquare, whole_columns = columns / kSquare * kSquare;
  for (int64_t r = 0; r < whole_rows; r += kSquare) {
    for (int64_t c = 0; c < whole_columns; c += kSquare) {
      transpose_square(x + r * x_stride + c, x_stride, out + c * out_stride + r, out_stride);
    }
  }
  transpose_plain(x + whole_columns, x_stride, whole_rows, columns - whole_columns,
                  out + whole_columns * out_stride, out_stride);
  transpose_plain(x + whole_rows * x_stride, x_stride, rows - whole_rows, columns, out + whole_rows,
                  out_stride);
}

void transpose_tile(const float* x, int64_t x_stride, int64_t rows, int64_t columns, float* out,
                    int64_t out_stride) {
  transpose_plain(x, x_stride, rows, columns, out, out_stride);
}

}  // namespace mole::kernels
