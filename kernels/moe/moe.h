// The routed experts of one layer as one operation: for each token t and choice j with expert
// e = expert_ids[t, j]: y[t] += w[t, j] * down_e( silu(gate_e x[t]) * up_e x[t] ).
// Source: DeepSeek-V2 paper (arXiv 2405.04434), section 2.2; SwiGLU: arXiv 2002.05202.
//
// Numerics: gate/up and down are `linear` (see its header); the activation is computed in float32 and
// rounded to the dtype before down; the choices of a token are added in float32 in the order of ascending
// j, each as fma(w, down, sum); y is rounded once. A token's bits don't depend on other tokens.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/linear/linear.h"

namespace mole::kernels {

struct ExpertWeights {
  PackedWeight gate_up;  // [2F, D]: row f of gate at 2*f' … see pack order below
  PackedWeight down;     // [D, F]
};
// Pack order of gate_up: rows are gate 0..F-1, then up 0..F-1 (plain concatenation).

struct MoeArgs {
  const void* x = nullptr;             // [T, D] dtype, contiguous
  DType dtype = DType::kFloat32;
  int64_t tokens = 0, hidden = 0, expert_width = 0;  // T, D, F
  int32_t top_k = 0;                   // K choices per token, distinct
  const int32_t* expert_ids = nullptr;  // [T, K], each in [0, E); -1 = no expert (adds nothing)
  const float* weights = nullptr;      // [T, K]
  std::span<const ExpertWeights> experts;  // [E]
  void* y = nullptr;                   // [T, D] dtype, contiguous; overwritten
  // For training, both or none:
  float* saved_gate_up = nullptr;      // [T, K, 2F] float32 before the activation
};

void moe(const MoeArgs& args, ThreadTeam& team);

/// Weights for the input gradients: transposes, packed.
struct ExpertWeightsT {
  PackedWeight gate_up_t;  // [D, 2F]
  PackedWeight down_t;     // [F, D]
};

struct MoeBackwardArgs {
  MoeArgs forward;                     // as in the forward call; y unused
  const void* dy = nullptr;            // [T, D] dtype
  std::span<const ExpertWeightsT> experts_t;
  float* dx = nullptr;                 // [T, D] float32; overwritten
  float* dweights = nullptr;           // [T, K] gradient of the routing weights; overwritten
  float* const* dgate_up = nullptr;    // [E] pointers to [2F, D] float32; added to
  float* const* ddown = nullptr;       // [E] pointers to [D, F] float32; added to
};

/// Gradients in the same dtype policy: matrix products through `linear`, sums in float32, every
/// reduction over tokens in ascending token order.
void moe_backward(const MoeBackwardArgs& args, ThreadTeam& team);

}  // namespace mole::kernels
