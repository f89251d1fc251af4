#include "kernels/linear/pack_parts.h"

#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/linear_impl.h"
#include "kernels/linear/pack_shapes.h"

namespace mole::kernels {

bool can_pack_parts(std::span<const PlainMatrix> parts, DType dtype) {
  const auto bytes = static_cast<uintptr_t>(dtype_bytes(dtype));
  for (size_t i = 0; i < parts.size(); ++i) {
    if (reinterpret_cast<uintptr_t>(parts[i].values) % bytes != 0) return false;
    if (parts[i].k != parts[0].k) return false;
    if (i + 1 < parts.size() && parts[i].n % kPanel != 0) return false;
  }
  return !parts.empty();
}

void pack_parts(std::span<const PlainMatrix> parts, DType dtype, PackedWeight& packed,
                ThreadTeam& team) {
  MOLE_CHECK(can_pack_parts(parts, dtype));
  const int64_t k = parts[0].k;
  int64_t n = 0;
  for (const PlainMatrix& part : parts) n += part.n;
  std::byte* out = packed.reshape(dtype, n, k);
  if (PackShapesOnly::active()) return;
  const auto pack_panels = isa() == Isa::kAvx2 ? avx2::pack_panels : avx512::pack_panels;
  const int64_t panel_bytes = panel_elements(dtype, k) * dtype_bytes(dtype);
  auto panels = [&](int64_t begin, int64_t end) {
    int64_t first = 0;  // the part's first panel
    for (const PlainMatrix& part : parts) {
      const int64_t count = ceil_div(part.n, kPanel);
      const int64_t from = std::max(begin - first, int64_t{0});
      const int64_t to = std::min(end - first, count);
      const PackSource source{
          .weight = part.values, .dtype = dtype, .n = part.n, .k = k, .stride = k};
      if (from < to) pack_panels(source, out + first * panel_bytes, from, to);
      first += count;
    }
  };
  team.parallel_for(ceil_div(n, kPanel), 1, panels);
}

}  // namespace mole::kernels
