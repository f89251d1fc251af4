// The two cases of moe share their inputs and the propagation of their error bounds.
#pragma once

#include <string>
#include <vector>

#include "kernels/cases/case.h"
#include "kernels/moe/moe.h"

namespace mole::kernels {

struct MoeShape {
  DType dtype = DType::kFloat32;
  int64_t tokens = 0, hidden = 0, width = 0, experts = 0;
  int32_t top_k = 0;
};

/// Inputs of the forward: x, weights, routing; packed and plain.
struct MoeInputs {
  MoeInputs(const MoeShape& moe_shape, CaseRandom& random);

  std::string name() const;
  void pack(bool with_transposes, ThreadTeam& team);
  MoeArgs args();
  /// The same in doubles; points into this object's members below.
  MoeRefArgs ref_args();

  MoeShape shape;
  Tensor x, gate_up, down, weights;  // [T, D], [E * 2F, D], [E * D, F], [T, K]
  std::vector<int32_t> expert_ids;   // [T, K]
  std::vector<ExpertWeights> packed;
  std::vector<ExpertWeightsT> packed_t;
  std::vector<double> x64, gate_up64, down64, weights64;
};

/// Values with a bound of each one's error.
struct Bounded {
  std::vector<double> value, error;

  explicit Bounded(std::size_t size = 0) : value(size), error(size) {}
  std::size_t size() const { return value.size(); }
};

/// w x for a vector x with errors and an exact matrix [n, k]; element (i, j) at matrix[i * row + j
/// * column]. Error: what x brings, and the float32 chain's.
Bounded product(const Bounded& x, const double* matrix, std::size_t n, std::size_t row,
                std::size_t column);
/// silu(gate) * up rounded to `dtype`, of [2F] values.
Bounded bounded_silu_mul(const Bounded& gate_up, DType dtype);
/// Its backward, [2F] rounded to `dtype`.
Bounded bounded_silu_mul_backward(const Bounded& gate_up, const Bounded& dy, DType dtype);
void add_rounding(Bounded& x, DType dtype);

/// Distinct experts for every choice.
std::vector<int32_t> random_choices(const MoeShape& shape, CaseRandom& random);
std::vector<std::function<CasePtr(CaseRandom&)>> moe_memory_cases();
CasePtr make_moe_backward_case(const MoeShape& shape, CaseRandom& random);

}  // namespace mole::kernels
