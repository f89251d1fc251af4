// Which experts a token goes to, and with what weight.
//   score = softmax(logits) or sigmoid(logits)                       (float32)
//   choice score = score + correction_bias                           (selection only)
//   group-limited: experts in num_groups equal groups; a group's score is the largest choice score
//   (kGroupMax, V2 "group_limited_greedy") or the sum of its two largest (kGroupTop2, V3
//   "noaux_tc"); only experts of the topk_groups best groups may be chosen the top_k largest choice
//   scores win, ties to the lower expert id; order: descending choice score weight = score of the
//   chosen; divided by their sum (+1e-20) if normalize; times scale
// Source: DeepSeek-V2 (arXiv 2405.04434) 2.2.2, DeepSeek-V3 (arXiv 2412.19437) eq. 12-16, and the
// published modelling code of transformers (deepseek_v2, deepseek_v3, mixtral).
// Experts outside the best groups can't be chosen at all: transformers fills their choice scores
// with -infinity for V3, and with 0 for V2, which differs only where a softmax score underflows to
// 0. NaN never hides: it counts as the largest choice score (as torch.topk has it), so a NaN logit
// is chosen and its weight is NaN. Ids are always distinct and in range. Numerics: float32, experts
// in ascending order in every sum; exp of kernels/cpu/exp.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

enum class RouterScore : uint8_t { kSoftmax, kSigmoid };
enum class RouterGroupScore : uint8_t { kGroupMax, kGroupTop2 };

/// The largest num_experts: a token's scores fit a worker's stack.
inline constexpr int32_t kMaxRouterExperts = 1024;

struct RouterConfig {
  RouterScore score = RouterScore::kSoftmax;
  int32_t num_experts = 0;
  int32_t top_k = 0;
  int32_t num_groups = 1;  // divides num_experts; 1 = no groups
  int32_t topk_groups = 1;
  RouterGroupScore group_score = RouterGroupScore::kGroupMax;
  bool normalize = false;  // norm_topk_prob
  float scale = 1.0f;      // routed_scaling_factor
};

struct RouterArgs {
  RouterConfig config;
  const float* logits = nullptr;           // [T, E]
  const float* correction_bias = nullptr;  // [E] or null
  int64_t tokens = 0;
  int32_t* expert_ids = nullptr;  // [T, K]
  float* weights = nullptr;       // [T, K]
  float* scores = nullptr;        // [T, E], for training, or null
};
void router(const RouterArgs& args, ThreadTeam& team);

struct RouterBackwardArgs {
  RouterArgs forward;               // expert_ids, scores as the forward made them
  const float* dweights = nullptr;  // [T, K]
  const float* dscores =
      nullptr;               // [T, E] further gradient of the scores (auxiliary loss), or null
  float* dlogits = nullptr;  // [T, E]; overwritten
};
void router_backward(const RouterBackwardArgs& args, ThreadTeam& team);

/// The forward in float64: scores [T, E], expert_ids and weights [T, K].
void router_ref(const RouterConfig& config, const double* logits, const double* correction_bias,
                int64_t tokens, int32_t* expert_ids, double* weights, double* scores);
/// Weights of given choices, and the gradient of sum(dweights * weights) + sum(dscores * scores)
/// with the choices held fixed (selection has no gradient). dscores may be null.
void router_weights_ref(const RouterConfig& config, const double* logits, const int32_t* expert_ids,
                        int64_t tokens, double* weights, double* scores);
void router_backward_ref(const RouterConfig& config, const double* logits,
                         const int32_t* expert_ids, const double* dweights, const double* dscores,
                         int64_t tokens, double* dlogits);

}  // namespace mole::kernels
