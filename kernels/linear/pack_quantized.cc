#include "kernels/linear/pack_quantized.h"
#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/pack_shapes.h"

namespace mole::kernels {

void pack_quantized(std::span<const QuantizedMatrix> parts, PackedWeight& packed,
                    ThreadTeam& team) {
  MOLE_CHECK(!parts.empty());
  int64_t n = 0;
  for (const QuantizedMatrix& part : parts) {
    MOLE_CHECK(part.format == parts[0].format);
    MOLE_CHECK_EQ(part.k, parts[0].k);
    n += part.n;
  }
  std::byte* out = packed.reshape(parts[0].format, n, parts[0].k);
  if (PackShapesOnly::active()) return;
  const auto pack_panel =
      isa() == Isa::kAvx2 ? avx2::pack_quantized_panel : avx512::pack_quantized_panel;
  const int64_t panel_bytes = quantized_panel_bytes(parts[0].format, parts[0].k);
  auto panels = [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      QuantizedPanel panel{parts[0].format, parts[0].k};
      int64_t first = 0;  // row of the stack
      for (const QuantizedMatrix& part : parts) {
        const int64_t from = std::max(p * kPanel, first);
        const int64_t to = std::min((p + 1) * kPanel, first + part.n);
        for (int64_t row = from; row < to; ++row) {
          const int64_t local = row - first;
          const int64_t scale = part.format == WeightFormat::kFp8 ? local / kGroupK : local;
          panel.codes[row - p * kPanel] = part.codes + local * code_row_bytes(part.format, part.k);
          panel.scales[row - p * kPanel] =
              part.scales + 4 * scale * scale_columns(part.format, part.k);
        }
        first += part.n;
      }
      pack_panel(panel, out + p * panel_bytes);
    }
  };
  team.parallel_for(ceil_div(n, kPanel), 1, panels);
}

}  // namespace mole::kernels
