// Which experts a token goes to, and with what weight.
//   score = softmax(logits) or sigmoid(logits)                       (float32)
//   choice score = score + correction_bias                           (selection only)
//   group-limited: experts in num_groups equal groups; a group's score is the largest choice score
//   (kGroupMax, V2 "group_limited_greedy") or the sum of its two largest (kGroupTop2, V3 "noaux_tc");
//   only experts of the topk_groups best groups may be chosen
//   the top_k largest choice scores win, ties to the lower expert id; order: descending choice score
//   weight = score of the chosen; divided by their sum (+1e-20) if normalize; times scale
// Source: DeepSeek-V2 (arXiv 2405.04434) 2.2.2, DeepSeek-V3 (arXiv 2412.19437) eq. 12-16, and the
// published modelling code of transformers (deepseek_v2, deepseek_v3, mixtral).
// Numerics: float32, experts in ascending order in every sum; exp of kernels/cpu/exp.h.
#pragma once

#include <cstdint>

#include "kernels/cpu/thread_team.h"

namespace mole::kernels {

enum class RouterScore : uint8_t { kSoftmax, kSigmoid };
enum class RouterGroupScore : uint8_t { kGroupMax, kGroupTop2 };

struct RouterConfig {
  RouterScore score = RouterScore::kSoftmax;
  int32_t num_experts = 0;
  int32_t top_k = 0;
  int32_t num_groups = 1;      // divides num_experts; 1 = no groups
  int32_t topk_groups = 1;
  RouterGroupScore group_score = RouterGroupScore::kGroupMax;
  bool normalize = false;      // norm_topk_prob
  float scale = 1.0f;          // routed_scaling_factor
};

struct RouterArgs {
  RouterConfig config;
  const float* logits = nullptr;           // [T, E]
  const float* correction_bias = nullptr;  // [E] or null
  int64_t tokens = 0;
  int32_t* expert_ids = nullptr;           // [T, K]
  float* weights = nullptr;                // [T, K]
  float* scores = nullptr;                 // [T, E], for training, or null
};
void router(const RouterArgs& args, ThreadTeam& team);

struct RouterBackwardArgs {
  RouterArgs forward;               // expert_ids, scores as the forward made them
  const float* dweights = nullptr;  // [T, K]
  const float* dscores = nullptr;   // [T, E] further gradient of the scores (auxiliary loss), or null
  float* dlogits = nullptr;         // [T, E]; overwritten
};
void router_backward(const RouterBackwardArgs& args, ThreadTeam& team);

}  // namespace mole::kernels
