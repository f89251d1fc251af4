// The k largest of a row, without sorting the row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace mole::runtime {

/// Fills `ids` with the min(k, values.size()) largest values' ids, largest first, ties by lower id.
/// No NaN in `values`. Cost: one pass and a heap of k for small k, else a partial selection.
void select_largest(std::span<const float> values, size_t k, std::vector<TokenId>* ids);

}  // namespace mole::runtime
