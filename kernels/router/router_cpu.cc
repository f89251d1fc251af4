#include "kernels/cpu/lanes.h"
#include "kernels/router/router_rows.h"

namespace mole::kernels::MOLE_ISA {
namespace {

constexpr float kInfinity = __builtin_inff();
constexpr float kNan = __builtin_nanf("");

/// The order of choice: NaN before everything, then descending; equal values keep the lower id.
inline bool better(float a, float b) { return a > b || (a != a && b == b); }

void softmax_row(const float* logits, int32_t experts, float* scores) {
  float largest = -kInfinity;
  for (int32_t e = 0; e < experts; ++e) {
    if (better(logits[e], largest)) largest = logits[e];
  }
  float sum = 0;
  for (int32_t e = 0; e < experts; e += 16) {
    const int32_t count = experts - e;
    const F32x16 shifted = sub16(load_partial16(logits + e, count), set16(largest));
    store_partial16(scores + e, exp16_keep_nan(shifted), count);
  }
  for (int32_t e = 0; e < experts; ++e) sum += scores[e];
  for (int32_t e = 0; e < experts; ++e) scores[e] = scores[e] / sum;
}

void sigmoid_row(const float* logits, int32_t experts, float* scores) {
  const F32x16 one = set16(1.0f);
  for (int32_t e = 0; e < experts; e += 16) {
    const int32_t count = experts - e;
    const F32x16 minus = sub16(zero16(), load_partial16(logits + e, count));
    store_partial16(scores + e, div16(one, add16(one, exp16(minus))), count);
  }
  for (int32_t e = 0; e < experts; ++e) {
    if (logits[e] != logits[e]) scores[e] = kNan;
  }
}

/// Writes the ids of the `count` best of `values` that are not `taken`, and marks them taken.
void take_best(const float* values, int32_t size, int32_t count, bool* taken, int32_t* ids) {
  for (int32_t k = 0; k < count; ++k) {
    int32_t best = -1;
    for (int32_t i = 0; i < size; ++i) {
      if (!taken[i] && (best < 0 || better(values[i], values[best]))) best = i;
    }
    taken[best] = true;
    ids[k] = best;
  }
}

float group_score(const RouterConfig& config, const float* choice, int32_t size) {
  float first = choice[0], second = -kInfinity;
  for (int32_t i = 1; i < size; ++i) {
    if (better(choice[i], first)) {
      second = first;
      first = choice[i];
    } else if (better(choice[i], second)) {
      second = choice[i];
    }
  }
  return config.group_score == RouterGroupScore::kGroupMax ? first : first + second;
}

/// Marks the experts of all but the best groups as taken.
void limit_groups(const RouterConfig& config, const float* choice, bool* taken) {
  const int32_t size = config.num_experts / config.num_groups;
  float groups[kMaxRouterExperts];
  bool group_taken[kMaxRouterExperts];
  int32_t ids[kMaxRouterExperts];
  for (int32_t g = 0; g < config.num_groups; ++g) {
    groups[g] = group_score(config, choice + g * size, size);
    group_taken[g] = false;
  }
  take_best(groups, config.num_groups, config.topk_groups, group_taken, ids);
  for (int32_t e = 0; e < config.num_experts; ++e) taken[e] = !group_taken[e / size];
}

/// The chosen scores' sum, ids ascending.
float chosen_sum(const float* scores, const bool* chosen, int32_t experts) {
  float sum = 0;
  for (int32_t e = 0; e < experts; ++e) {
    if (chosen[e]) sum += scores[e];
  }
  return sum + 1e-20f;
}

void mark_chosen(const int32_t* ids, int32_t count, int32_t experts, bool* chosen) {
  for (int32_t e = 0; e < experts; ++e) chosen[e] = false;
  for (int32_t k = 0; k < count; ++k) chosen[ids[k]] = true;
}

void route_token(const RouterArgs& args, int64_t t, float* scores) {
  const RouterConfig& config = args.config;
  const int32_t experts = config.num_experts;
  const float* logits = args.logits + t * experts;
  int32_t* ids = args.expert_ids + t * config.top_k;
  if (config.score == RouterScore::kSoftmax) {
    softmax_row(logits, experts, scores);
  } else {
    sigmoid_row(logits, experts, scores);
  }
  float choice[kMaxRouterExperts];
  bool taken[kMaxRouterExperts];
  for (int32_t e = 0; e < experts; ++e) {
    choice[e] = args.correction_bias == nullptr ? scores[e] : scores[e] + args.correction_bias[e];
    taken[e] = false;
  }
  if (config.num_groups > 1) limit_groups(config, choice, taken);
  take_best(choice, experts, config.top_k, taken, ids);
  mark_chosen(ids, config.top_k, experts, taken);
  const float sum = config.normalize ? chosen_sum(scores, taken, experts) : 1.0f;
  for (int32_t k = 0; k < config.top_k; ++k) {
    args.weights[t * config.top_k + k] = scores[ids[k]] / sum * config.scale;
  }
}

/// ds of one token: the weights' part (see router_backward_ref) and the further part.
void score_gradient(const RouterBackwardArgs& args, int64_t t, const float* scores, float* ds) {
  const RouterConfig& config = args.forward.config;
  const int32_t experts = config.num_experts;
  const int32_t* ids = args.forward.expert_ids + t * config.top_k;
  float by_expert[kMaxRouterExperts];
  bool chosen[kMaxRouterExperts];
  mark_chosen(ids, config.top_k, experts, chosen);
  for (int32_t k = 0; k < config.top_k; ++k) {
    by_expert[ids[k]] = args.dweights[t * config.top_k + k];
  }
  const float sum = config.normalize ? chosen_sum(scores, chosen, experts) : 1.0f;
  float weighted = 0;
  for (int32_t e = 0; e < experts && config.normalize; ++e) {
    if (chosen[e]) weighted += by_expert[e] * (scores[e] / sum);
  }
  for (int32_t e = 0; e < experts; ++e) {
    ds[e] = args.dscores == nullptr ? 0.0f : args.dscores[t * experts + e];
    if (chosen[e]) ds[e] += config.scale * ((by_expert[e] - weighted) / sum);
  }
}

}  // namespace

void router_rows(const RouterArgs& args, int64_t begin, int64_t end) {
  float row[kMaxRouterExperts];
  for (int64_t t = begin; t < end; ++t) {
    route_token(args, t, args.scores == nullptr ? row : args.scores + t * args.config.num_experts);
  }
}

void router_backward_rows(const RouterBackwardArgs& args, int64_t begin, int64_t end) {
  const RouterConfig& config = args.forward.config;
  const int32_t experts = config.num_experts;
  float ds[kMaxRouterExperts];
  for (int64_t t = begin; t < end; ++t) {
    const float* scores = args.forward.scores + t * experts;
    float* dlogits = args.dlogits + t * experts;
    score_gradient(args, t, scores, ds);
    float mean = 0;
    for (int32_t e = 0; e < experts; ++e) mean += ds[e] * scores[e];
    for (int32_t e = 0; e < experts; ++e) {
      const bool softmax = config.score == RouterScore::kSoftmax;
      dlogits[e] = scores[e] * (softmax ? ds[e] - mean : ds[e] * (1.0f - scores[e]));
    }
  }
}

}  // namespace mole::kernels::MOLE_ISA
