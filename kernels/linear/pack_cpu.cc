// Packing of weights: see PackedWeight for the order. Whole 16-column blocks go through registers,
// edges word by word.
#include <algorithm>

#include "kernels/cpu/transpose.h"
#include "kernels/linear/linear_impl.h"

namespace mole::kernels::MOLE_ISA {
namespace {

template <typename T>
const T* element(const PackSource& source, int64_t n, int64_t k) {
  int64_t row = source.transposed ? k : n;
  const int64_t column = source.transposed ? n : k;
  if (source.rows != nullptr) row = source.rows[row];
  return static_cast<const T*>(source.weight) + row * source.stride + column;
}

/// k0 … k0 + depth of one panel, `out` being the place of k0.
void pack_block_f32(const PackSource& source, int64_t n0, int64_t k0, int64_t depth, float* out) {
  const int64_t columns = std::min(kPanel, source.n - n0);
  int64_t k = 0;
  if (columns == kPanel && source.transposed) {
    for (; k < depth; ++k) store16(out + k * kPanel, load16(element<float>(source, n0, k0 + k)));
  } else if (columns == kPanel && source.rows == nullptr) {
    const int64_t stride = source.stride * static_cast<int64_t>(sizeof(float));
    for (; k + 16 <= depth; k += 16) {
      transpose16(element<float>(source, n0, k0 + k), stride,
                  reinterpret_cast<uint32_t*>(out + k * kPanel));
    }
  }
  for (; k < depth; ++k) {
    for (int64_t i = 0; i < kPanel; ++i) {
      out[k * kPanel + i] = i < columns ? *element<float>(source, n0 + i, k0 + k) : 0.0f;
    }
  }
}

/// One tile of 32 k whose every element exists.
void pack_whole_tile(const PackSource& source, int64_t n0, int64_t k0, BFloat16* out) {
  if (!source.transposed) {
    transpose16(element<BFloat16>(source, n0, k0),
                source.stride * static_cast<int64_t>(sizeof(BFloat16)),
                reinterpret_cast<uint32_t*>(out));
    return;
  }
  for (int64_t pair = 0; pair < kBlockK / 2; ++pair) {
    interleave16(element<BFloat16>(source, n0, k0 + 2 * pair),
                 element<BFloat16>(source, n0, k0 + 2 * pair + 1), out + pair * 2 * kPanel);
  }
}

/// The same for bfloat16: a tile, padded with zeros.
void pack_block_bf16(const PackSource& source, int64_t n0, int64_t k0, int64_t depth,
                     BFloat16* out) {
  const int64_t columns = std::min(kPanel, source.n - n0);
  const bool strided = source.transposed || source.rows == nullptr;
  if (columns == kPanel && depth == kBlockK && strided) return pack_whole_tile(source, n0, k0, out);
  std::fill(out, out + kBlockK * kPanel, BFloat16{});
  for (int64_t k = 0; k < depth; ++k) {
    for (int64_t i = 0; i < columns; ++i) {
      out[(k / 2 * kPanel + i) * 2 + k % 2] = *element<BFloat16>(source, n0 + i, k0 + k);
    }
  }
}

}  // namespace

void pack_panels(const PackSource& source, std::byte* packed, int64_t panel_begin,
                 int64_t panel_end) {
  const int64_t size = panel_elements(source.dtype, source.k);
  // Transposed, a line of memory holds several panels: they are packed together, along the lines.
  const int64_t group = source.transposed ? 8 : 1;
  for (int64_t first = panel_begin; first < panel_end; first += group) {
    const int64_t last = std::min(panel_end, first + group);
    for (int64_t k0 = 0; k0 < source.k; k0 += kBlockK) {
      const int64_t depth = std::min(kBlockK, source.k - k0);
      for (int64_t panel = first; panel < last; ++panel) {
        const int64_t n0 = panel * kPanel, to = panel * size + k0 * kPanel;
        if (source.dtype == DType::kBFloat16) {
          pack_block_bf16(source, n0, k0, depth, reinterpret_cast<BFloat16*>(packed) + to);
        } else {
          pack_block_f32(source, n0, k0, depth, reinterpret_cast<float*>(packed) + to);
        }
      }
    }
  }
}

}  // namespace mole::kernels::MOLE_ISA
