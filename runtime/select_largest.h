// The k largest of a row, without sorting the row.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/ids.h"

namespace mole::runtime {

/// Fills `ids` with the min(k, values.size()) largest values' ids, largest first, ties by lower id.
/// `maxima` as kernels::block_maxima() gave them: no NaN, no +infinity in `values`.
/// Cost: one quick pass while k is below the number of blocks, else a partial selection.
void select_largest(std::span<const float> values, std::span<const float> maxima, size_t k,
                    std::vector<TokenId>* ids);

}  // namespace mole::runtime
