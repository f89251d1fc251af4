// The parts of attention that are compiled once per instruction set; attention.cc splits the work
// and chooses.
//
// A row is one query of one head. The rows of a key-value head's group are numbered
// r = t * group + (head - kv_head * group), so positions never fall with r.
#pragma once

#include "kernels/attention/attention.h"

namespace mole::kernels::avx2 {
void attention_rows(const AttentionArgs& args, int32_t kv_head, int64_t begin, int64_t end);
void attention_backward_head(const AttentionBackwardArgs& args, int32_t kv_head, float* dk_shared);
}  // namespace mole::kernels::avx2

namespace mole::kernels::avx512 {
/// Rows [begin, end) of one key-value head, in float32; bfloat16's are in attention_spans.h.
void attention_rows(const AttentionArgs& args, int32_t kv_head, int64_t begin, int64_t end);
/// All gradients of one key-value head; its part of dk_shared [T, shared] goes to `dk_shared`.
void attention_backward_head(const AttentionBackwardArgs& args, int32_t kv_head, float* dk_shared);
}  // namespace mole::kernels::avx512
