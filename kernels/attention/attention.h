// Causal attention over blocks of keys: one operation for GQA/MQA (keys and values from pages), for
// MLA in absorbed form (one latent "head" shared by all query heads, the value being the first
// value_dim numbers of the key) and for MLA in expanded form (per-head keys and values plus a
// rotary key part shared by all heads).
//
//   out[t, h] = softmax_j( scale * (q[t, h] . k[j, h/g] + q_shared[t, h] . k_shared[j]) ) v[j, h/g]
//   over j = 0 … position(t), g = num_heads / num_kv_heads.
// Source: DeepSeek-V2 paper (arXiv 2405.04434), eq. 9-19 and appendix C; GQA: arXiv 2305.13245;
// online softmax: arXiv 1805.02867.
//
// Numerics, independent of threads, of the other rows and of the instruction set. In both dtypes
// keys are visited in runs aligned to position 0, each with its own maximum, its sum of exp(score -
// maximum) over 16 interleaved chains (key j in chain j mod 16) added pairwise, and its output.
// Runs are merged in order, both sides scaled to the larger maximum, so that threads may share a
// long context. The result is divided by the sum and rounded once.
//  - float32: runs of kAttentionBlock keys. Scores are one FMA chain over the dimensions (k first,
//    then k_shared), times scale; a run's output is one FMA chain over its keys in order.
//  - bfloat16: runs of kAttentionSpan keys, products in the arithmetic of TDPBF16PS
//    (kernels/linear/linear.h) on every machine. Scores are such a sum over the dimensions (k
//    first, then k_shared, each filled up with zeros to a multiple of 32), times scale.
//    Probabilities exp(score - maximum) are rounded to bfloat16; a run's output is the sum of
//    rounded probabilities times values over its keys, and the divisor is the sum of the rounded
//    ones, so that the weights add up to one: an output is off by the roundings' effect on value
//    minus output only, not on the value itself. logsumexp comes from the unrounded sum. A zero is
//    written as +0.
// exp is kernels/cpu/exp.h's, the same bits on every machine. No key after a row's position reaches
// that row's result, whatever the key, its value or a stale slot of a page hold: NaN and infinity
// included. NaN or +infinity among a row's scores, or -infinity everywhere, give NaN.
#pragma once

#include <cstdint>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/kv_entry/kv_entry.h"

namespace mole::kernels {

inline constexpr int32_t kAttentionBlock = 64;
inline constexpr int32_t kAttentionSpan = 256;

/// One sequence's queries of one step against its keys.
struct AttentionArgs {
  DType dtype = DType::kFloat32;  // of q, keys, values, out: float32 or bfloat16
  int64_t num_queries = 0;        // rows; row t has position first_position + t
  int64_t first_position = 0;
  int32_t num_heads = 0;     // H
  int32_t num_kv_heads = 0;  // divides H
  int32_t key_dim = 0;       // of the per-head part
  int32_t shared_dim = 0;    // of the part shared by all heads; 0 = none
  int32_t value_dim = 0;
  float scale = 1.0f;

  const void* q = nullptr;  // [num_queries, H, key_dim], strides in elements
  int64_t q_row_stride = 0, q_head_stride = 0;
  const void* q_shared = nullptr;  // [num_queries, H, shared_dim]
  int64_t q_shared_row_stride = 0, q_shared_head_stride = 0;

  /// Block b holds positions [64 b, 64 b + 64); pointers to its first row. ceil(context / 64)
  /// entries, context = first_position + num_queries. Rows past the context are never read.
  const void* const* key_blocks = nullptr;
  const void* const* value_blocks = nullptr;
  const void* const* shared_blocks = nullptr;  // null when shared_dim is 0
  int64_t key_row_stride = 0, key_head_stride = 0;
  int64_t value_row_stride = 0, value_head_stride = 0;
  int64_t shared_row_stride = 0;
  /// How key_blocks hold their keys. kModel: as dtype, by the strides above. Otherwise as entries
  /// of kernels/kv_entry, one after the other, whose latent is the value and whose rope the rest
  /// of the key: num_kv_heads is 1, shared_dim 0, value_dim <= key_dim, and value_blocks and the
  /// keys' and values' strides are not used. Entries are decoded to dtype, then all is as above.
  KvFormat key_format = KvFormat::kModel;

  void* out = nullptr;  // [num_queries, H, value_dim]
  int64_t out_row_stride = 0, out_head_stride = 0;
  float* logsumexp = nullptr;  // [num_queries, H] for the backward, or null
};

/// All sequences of a step. Sequences with few rows are cut between threads at spans, each key
/// being read once for all heads, the others at rows. Cost: 2*H*(key+shared+value)*sum(context)
/// flop. Aliasing: none of `out`, `logsumexp` with an input. Thread: as ThreadTeam's.
void attention(const AttentionArgs* sequences, int64_t num_sequences, ThreadTeam& team);

/// Gradients for whole sequences (first_position = 0), all float32, contiguous in the layouts of
/// the forward tensors: dq [T, H, key], dq_shared [T, H, shared], dk [T, Hkv, key], dk_shared [T,
/// shared], dv [T, Hkv, value]; overwritten. `out`, `logsumexp` from the forward; dout [T, H,
/// value] dtype with out's strides.
///
/// Numerics: probabilities again from the scores (the forward's bits) and logsumexp; delta = dout .
/// out over 16 chains as rms_norm's. dq is one FMA chain over keys, ascending; dk and dv one over
/// the head group's rows, ordered by query and then head; dk_shared is the sum of each key-value
/// head's such chain, heads ascending. A NaN may reach every gradient of its sequence.
struct AttentionBackwardArgs {
  AttentionArgs forward;
  const void* dout = nullptr;
  float* dq = nullptr;
  float* dq_shared = nullptr;
  float* dk = nullptr;
  float* dk_shared = nullptr;
  float* dv = nullptr;
};
void attention_backward(const AttentionBackwardArgs* sequences, int64_t num_sequences,
                        ThreadTeam& team);

/// The same in float64, for one sequence in plain layouts: q [Q, H, key + shared], k [C, Hkv, key],
/// k_shared [C, shared], v [C, Hkv, value], out [Q, H, value], logsumexp [Q, H]; C = first_position
/// + Q. Sizes and scale are taken from `shape`, which needs no pointers.
void attention_ref(const AttentionArgs& shape, const double* q, const double* k,
                   const double* k_shared, const double* v, double* out, double* logsumexp);
/// For first_position = 0; gradients in the inputs' layouts, overwritten.
void attention_backward_ref(const AttentionArgs& shape, const double* q, const double* k,
                            const double* k_shared, const double* v, const double* dout, double* dq,
                            double* dk, double* dk_shared, double* dv);

}  // namespace mole::kernels
