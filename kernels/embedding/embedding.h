// Rows of a table by token id, and the gradient of that.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "base/ids.h"
#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

/// y[t] = table[ids[t]]; table [vocab, dim], y [tokens, dim], both dtype and contiguous. Exact
/// copy.
void embedding(const void* table, DType dtype, const TokenId* ids, int64_t tokens, int64_t dim,
               void* y, ThreadTeam& team);

/// dtable[ids[t]] += dy[t] in ascending t; dy [tokens, dim] dtype, dtable [vocab, dim] float32.
void embedding_backward(const void* dy, DType dtype, const TokenId* ids, int64_t tokens,
                        int64_t vocab, int64_t dim, float* dtable, ThreadTeam& team);

}  // namespace mole::kernels
