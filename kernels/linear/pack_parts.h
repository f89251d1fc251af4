// Packing straight from where matrices lie, a checkpoint's mapped files for example, without a copy
// that puts them together first.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/linear/linear.h"

namespace mole::kernels {

/// Values [n, k] of float32 or bfloat16, contiguous.
struct PlainMatrix {
  const void* values = nullptr;
  int64_t n = 0, k = 0;
};

/// Whether pack_parts takes these: values aligned to their type, one k, and rows of all but the
/// last a multiple of a panel's.
bool can_pack_parts(std::span<const PlainMatrix> parts, DType dtype);

/// `packed` becomes what PackedWeight::pack makes of the matrices stacked along n. Requires
/// can_pack_parts. Thread: the team's caller.
void pack_parts(std::span<const PlainMatrix> parts, DType dtype, PackedWeight& packed,
                ThreadTeam& team);

}  // namespace mole::kernels
