// The model's operations on tensors. Each checks names, shapes and types, calls one pointer kernel,
// and (when gradients are on and something upstream needs them) records how to go back. The forward
// is the same kernel call with and without recording, so training and serving agree to the bit.
//
// Shape letters: T tokens, D hidden, N outputs, K inputs or choices, H heads, E experts, F expert
// width. Weight gradients are added to the weights' own float32 buffers, not passed through the
// graph. Thread: one caller at a time. A wrong argument is a bug and stops the process.
#pragma once

#include <ATen/core/Tensor.h>

#include <span>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "kernels/rope/rope.h"
#include "kernels/router/router.h"
#include "kernels/torch/expert_bank.h"
#include "kernels/torch/weight.h"

namespace mole::kernels {

/// x [T, K] (row stride free) -> [T, N] in `y_dtype`. x is converted if the weight computes in
/// float32.
at::Tensor linear(const at::Tensor& x, Weight& weight, DType y_dtype);

/// Two products of the same x in one parallel region; x has both weights' compute type.
std::pair<at::Tensor, at::Tensor> linear_pair(const at::Tensor& x, Weight& first, Weight& second,
                                              DType y_dtype);

/// down(silu(gate x) * up x): x [T, D] -> [T, D]. gate_up [2F, D], down [D, F]. The products of
/// gate and up stay in float32 until after the activation.
at::Tensor swiglu(const at::Tensor& x, Weight& gate_up, Weight& down);

/// Rows of table [vocab, D] -> [T, D].
at::Tensor embedding(std::span<const TokenId> ids, Weight& table);

/// x [T, D] (row stride free), weight [1, D] -> [T, D].
at::Tensor rms_norm(const at::Tensor& x, Weight& weight, float eps);

/// The same into columns [first, first + D) of out [T, …]; without gradients.
void rms_norm_into(const at::Tensor& x, Weight& weight, float eps, const at::Tensor& out,
                   int64_t first);

/// What the residual stream takes in: `first`, or first + second, all [T, D].
struct Delta {
  at::Tensor first;
  at::Tensor second = {};  // or undefined
};
/// x <- x + delta, and where `weight` is given rms_norm of that (else undefined). Without gradients
/// x's memory takes the sum. Source and roundings: kernels/rms_norm/add_rms_norm.h.
at::Tensor add_rms_norm(at::Tensor& x, const Delta& delta, Weight* weight, float eps);

struct RopePart {
  const RopeTable* table = nullptr;  // must outlive the graph
  RopeLayout layout = RopeLayout::kInterleaved;
  int64_t first = 0;  // column where head 0's rotary part starts
  int32_t heads = 0;
  int64_t head_stride = 0;
};
/// Turns columns of x [T, columns] in place. positions [T] int32. x must not be a view.
void rope_(at::Tensor& x, const at::Tensor& positions, const RopePart& part);

/// MLA's cache entry from kv_a [T, C + R]: rms_norm of the first C columns, and the last R turned.
at::Tensor latent_entry(const at::Tensor& kv_a, Weight& norm, float eps,
                        const at::Tensor& positions, const RopeTable& table, RopeLayout layout);

/// How heads lie in rows of q [T, H * (key + shared)] and of kv [T, …].
struct AttentionShape {
  int32_t heads = 0, kv_heads = 0;
  int32_t key_dim = 0, shared_dim = 0, value_dim = 0;
  int64_t key_head_stride = 0;
  int64_t value_first = 0, value_head_stride = 0;
  float scale = 1.0f;
};
/// Whole sequences, row starts[s] being position 0 of sequence s: -> [T, H * value_dim].
/// k_shared [T, shared_dim], row stride free; undefined if shared_dim is 0.
at::Tensor attention(const at::Tensor& q, const at::Tensor& kv, const at::Tensor& k_shared,
                     const std::vector<int32_t>& starts, const AttentionShape& shape);

struct BalanceOptions {
  double scale = 0.0;                            // 0 = no balance loss
  const std::vector<int32_t>* starts = nullptr;  // [S+1] rows of the sequences
};
struct Routing {
  at::Tensor weights;     // [T, K] float32
  at::Tensor expert_ids;  // [T, K] int32
  at::Tensor balance;  // 0-dim float32: scale * sum over sequences of sum_i f_i P_i; or undefined
  double balance_sum = 0;  // without scale
};
/// logits [T, E] float32; correction_bias [E] float32 or undefined.
Routing route(const at::Tensor& logits, const RouterConfig& config,
              const at::Tensor& correction_bias, const BalanceOptions& balance);

/// x [T, D] -> [T, D]: the weighted sum of each token's experts.
at::Tensor moe(const at::Tensor& x, const Routing& routing, ExpertBank& bank);

struct LmLossOptions {
  double token_scale = 1.0;
};
struct LmLoss {
  at::Tensor loss;  // 0-dim float32: token_scale * sum of -log p
  double negative_log_likelihood = 0;
  int64_t counted = 0;
};
/// Loss of hidden [T, D] (after the final norm) under head [vocab, D]; logits exist for a few
/// hundred rows at a time. Gradients are made in the forward: backward() must be called on the loss
/// unscaled.
LmLoss lm_loss(const at::Tensor& hidden, Weight& head, std::span<const TokenId> targets,
               const LmLossOptions& options);

/// log p of each target (0 where it is -1) -> log_probs [T]. No gradient.
void lm_score(const at::Tensor& hidden, Weight& head, std::span<const TokenId> targets,
              std::span<float> log_probs);

}  // namespace mole::kernels
