#include "kernels/moe/moe.h"

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/moe/moe_impl.h"
#include "kernels/silu_mul/silu_mul_impl.h"

namespace mole::kernels {
namespace {

/// Working memory of the calling thread, kept between calls.
struct Workspace {
  Routing routing;
  Buffer gate_up;     // [positions, 2F] float32
  Buffer activation;  // [positions, F] dtype
  Buffer down;        // [T, K, D] float32
  std::vector<LinearArgs> products;
};

void validate(const MoeArgs& args) {
  MOLE_CHECK(args.dtype == DType::kFloat32 || args.dtype == DType::kBFloat16);
  MOLE_CHECK_GE(args.tokens, 0);
  MOLE_CHECK_GE(args.top_k, 0);
  for (const ExpertWeights& expert : args.experts) {
    MOLE_CHECK(expert.gate_up.dtype() == args.dtype && expert.down.dtype() == args.dtype);
    MOLE_CHECK_EQ(expert.gate_up.n(), 2 * args.expert_width);
    MOLE_CHECK_EQ(expert.gate_up.k(), args.hidden);
    MOLE_CHECK_EQ(expert.down.n(), args.hidden);
    MOLE_CHECK_EQ(expert.down.k(), args.expert_width);
  }
}

/// gate_up_e x for every choice, to `out`: by position, or by slot if it is args.saved_gate_up.
void gate_up_products(const MoeArgs& args, const Routing& routing, float* out,
                      std::vector<LinearArgs>& products) {
  products.clear();
  const bool by_slot = out == args.saved_gate_up;
  for (std::size_t e = 0; e < args.experts.size(); ++e) {
    const int64_t first = routing.starts[e], rows = routing.starts[e + 1] - first;
    if (rows == 0) continue;
    LinearArgs product{.x = args.x, .rows = rows, .x_stride = args.hidden};
    product.x_rows = routing.tokens.data() + first;
    product.weight = &args.experts[e].gate_up;
    product.y = by_slot ? out : out + first * 2 * args.expert_width;
    product.y_stride = 2 * args.expert_width;
    product.y_rows = by_slot ? routing.slots.data() + first : nullptr;
    products.push_back(product);
  }
}

/// silu(gate) * up of every position, rounded to the dtype.
void activations(const MoeArgs& args, const Routing& routing, const float* gate_up, std::byte* out,
                 ThreadTeam& team) {
  const int64_t width = args.expert_width;
  const bool by_slot = gate_up == args.saved_gate_up;
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      const int64_t row = by_slot ? routing.slots[static_cast<std::size_t>(p)] : p;
      silu_mul_row({.gate_up = gate_up + row * 2 * width,
                    .width = width,
                    .y = out + p * width * dtype_bytes(args.dtype),
                    .out_dtype = args.dtype});
    }
  };
  team.parallel_for(routing.positions(), 4, part);
}

/// down_e of every choice, to its slot.
void down_products(const MoeArgs& args, const Routing& routing, const std::byte* activation,
                   float* out, std::vector<LinearArgs>& products) {
  products.clear();
  for (std::size_t e = 0; e < args.experts.size(); ++e) {
    const int64_t first = routing.starts[e], rows = routing.starts[e + 1] - first;
    if (rows == 0) continue;
    LinearArgs product{.rows = rows, .x_stride = args.expert_width};
    product.x = activation + first * args.expert_width * dtype_bytes(args.dtype);
    product.weight = &args.experts[e].down;
    product.y = out;
    product.y_stride = args.hidden;
    product.y_rows = routing.slots.data() + first;
    products.push_back(product);
  }
}

}  // namespace

void combine(const MoeArgs& args, const float* rows, const float* weights, void* y, DType dtype,
             ThreadTeam& team) {
  const auto combine_row = isa() == Isa::kAvx2 ? avx2::combine_row : avx512::combine_row;
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t slot = t * args.top_k;
      combine_row({.rows = rows + slot * args.hidden,
                   .expert_ids = args.expert_ids + slot,
                   .weights = weights == nullptr ? nullptr : weights + slot,
                   .top_k = args.top_k,
                   .hidden = args.hidden,
                   .y = static_cast<std::byte*>(y) + t * args.hidden * dtype_bytes(dtype),
                   .dtype = dtype});
    }
  };
  team.parallel_for(args.tokens, 4, part);
}

void moe(const MoeArgs& args, ThreadTeam& team) {
  validate(args);
  thread_local Workspace workspace;
  sort_by_expert(args, workspace.routing);
  const int64_t positions = workspace.routing.positions();
  float* gate_up = args.saved_gate_up;
  if (gate_up == nullptr) {
    gate_up = workspace.gate_up.reserve_as<float>(positions * 2 * args.expert_width);
  }
  gate_up_products(args, workspace.routing, gate_up, workspace.products);
  linear_many(workspace.products, team);

  std::byte* activation =
      workspace.activation.reserve(positions * args.expert_width * dtype_bytes(args.dtype));
  activations(args, workspace.routing, gate_up, activation, team);

  float* down = workspace.down.reserve_as<float>(args.tokens * args.top_k * args.hidden);
  down_products(args, workspace.routing, activation, down, workspace.products);
  linear_many(workspace.products, team);
  combine(args, down, args.weights, args.y, args.dtype, team);
}

}  // namespace mole::kernels
