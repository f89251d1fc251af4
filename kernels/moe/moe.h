// The routed experts of one layer as one operation: for each token t and choice j with expert
// e = expert_ids[t, j]: y[t] += w[t, j] * down_e( silu(gate_e x[t]) * up_e x[t] ).
// Source: DeepSeek-V2 paper (arXiv 2405.04434), section 2.2; SwiGLU: arXiv 2002.05202.
//
// Numerics: gate/up and down are `linear` (see its header); the activation is computed in float32
// and rounded to the dtype before down; the choices of a token are added in float32 in the order of
// ascending j, each as fma(w, down, sum); y is rounded once. A token's bits don't depend on other
// tokens.
#pragma once

#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "kernels/cpu/thread_team.h"
#include "kernels/linear/linear.h"

namespace mole::kernels {

struct ExpertWeights {
  PackedWeight gate_up;  // [2F, D]: the rows of gate, then those of up
  PackedWeight down;     // [D, F]
};

struct MoeArgs {
  const void* x = nullptr;  // [T, D] dtype, contiguous
  DType dtype = DType::kFloat32;
  int64_t tokens = 0, hidden = 0, expert_width = 0;  // T, D, F
  int32_t top_k = 0;                                 // K choices per token, distinct
  const int32_t* expert_ids = nullptr;  // [T, K], each in [0, E); -1 = no expert (adds nothing)
  const float* weights = nullptr;       // [T, K]
  std::span<const ExpertWeights> experts = {};  // [E]
  void* y = nullptr;                            // [T, D] dtype, contiguous; overwritten
  /// For training, or null: gate and up before the activation, [T, K, 2F] float32. Rows of choices
  /// without an expert are left as they are.
  float* saved_gate_up = nullptr;
};

/// Thread: the team's caller. Errors: none; a wrong argument (an expert id out of range) is a bug
/// and stops the process. Cost: 6*T*K*D*F flop; reads each chosen expert's weights once.
void moe(const MoeArgs& args, ThreadTeam& team);

/// Weights for the input gradients: transposes, packed.
struct ExpertWeightsT {
  PackedWeight gate_up_t;  // [D, 2F]
  PackedWeight down_t;     // [F, D]
};

struct MoeBackwardArgs {
  MoeArgs forward;           // as in the forward call; y unused
  const void* dy = nullptr;  // [T, D] dtype
  std::span<const ExpertWeightsT> experts_t = {};
  float* dx = nullptr;               // [T, D] float32; overwritten
  float* dweights = nullptr;         // [T, K] gradient of the routing weights; overwritten
  float* const* dgate_up = nullptr;  // [E] pointers to [2F, D] float32; added to
  float* const* ddown = nullptr;     // [E] pointers to [D, F] float32; added to
};

/// Gradients in the same dtype policy: matrix products through `linear`, whose operands are of the
/// dtype, sums in float32, every reduction over tokens in ascending token order. With g = down_e^T
/// dy[t] (float32) and h the activation as rounded by the forward:
///   dweights[t, j] = h . g;  dh = w g;  dgate_up = silu_mul's backward of dh, rounded to the
///   dtype; ddown_e += dy^T (w h rounded to the dtype);  dgate_up_e += dgate_up^T x;  dx = sum_j
///   gate_up_e^T dgate_up, j ascending.
void moe_backward(const MoeBackwardArgs& args, ThreadTeam& team);

/// In float64: what the implementations are held against. Contiguous doubles, shapes as above;
/// gate_up [E, 2F, D], down [E, D, F].
struct MoeRefArgs {
  int64_t tokens = 0, hidden = 0, expert_width = 0;
  int32_t top_k = 0;
  const double* x = nullptr;
  const int32_t* expert_ids = nullptr;
  const double* weights = nullptr;
  const double* gate_up = nullptr;
  const double* down = nullptr;
};
void moe_ref(const MoeRefArgs& args, double* y);
/// All outputs are added to.
struct MoeRefGradients {
  double* dx = nullptr;        // [T, D]
  double* dweights = nullptr;  // [T, K]
  double* dgate_up = nullptr;  // [E, 2F, D]
  double* ddown = nullptr;     // [E, D, F]
};
void moe_backward_ref(const MoeRefArgs& args, const double* dy, const MoeRefGradients& out);

}  // namespace mole::kernels
