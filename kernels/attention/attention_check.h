// What attention and its gradient ask of their arguments.
#pragma once

#include "base/check.h"
#include "kernels/attention/attention.h"

namespace mole::kernels {

inline void check_attention(const AttentionArgs& args) {
  MOLE_CHECK(args.dtype == DType::kFloat32 || args.dtype == DType::kBFloat16);
  MOLE_CHECK_GE(args.num_queries, 0);
  MOLE_CHECK_GE(args.first_position, 0);
  MOLE_CHECK_GT(args.num_kv_heads, 0);
  MOLE_CHECK_GT(args.num_heads, 0);
  MOLE_CHECK_EQ(args.num_heads % args.num_kv_heads, 0);
  MOLE_CHECK_GT(args.key_dim, 0);
  MOLE_CHECK_GT(args.value_dim, 0);
  MOLE_CHECK_GE(args.shared_dim, 0);
  if (args.key_format != KvFormat::kModel) {
    MOLE_CHECK_EQ(args.num_kv_heads, 1);
    MOLE_CHECK_EQ(args.shared_dim, 0);
    MOLE_CHECK_LE(args.value_dim, args.key_dim);
  }
  if (args.num_queries == 0) return;
  MOLE_CHECK(args.q != nullptr && args.out != nullptr);
  MOLE_CHECK(args.key_blocks != nullptr);
  MOLE_CHECK(args.value_blocks != nullptr || args.key_format != KvFormat::kModel);
  MOLE_CHECK(args.shared_dim == 0 || (args.q_shared != nullptr && args.shared_blocks != nullptr));
}

inline int64_t attention_group(const AttentionArgs& args) {
  return args.num_heads / args.num_kv_heads;
}

}  // namespace mole::kernels
