#include "kernels/moe/moe.h"

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/moe/moe_impl.h"
#include "kernels/silu_mul/silu_mul_impl.h"

namespace mole::kernels {
namespace {

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

/// The layer's steps on one block of positions. Memory between the steps is the caller's.
class Steps {
 public:
  Steps(const MoeArgs& args, const Routing& routing, float* down)
      : args_(args), routing_(routing), down_(down) {}

  /// gate_up_e x: to args.saved_gate_up by slot, if there is one, else to `out` [rows, 2F].
  LinearArgs gate_up(const Routing::Block& block, float* out) const {
    LinearArgs product{.x = args_.x, .rows = block.rows, .x_stride = args_.hidden};
    product.x_rows = routing_.tokens.data() + block.first;
    product.weight = &args_.experts[static_cast<std::size_t>(block.expert)].gate_up;
    product.y = out;
    product.y_stride = 2 * args_.expert_width;
    if (args_.saved_gate_up != nullptr) {
      product.y = args_.saved_gate_up;
      product.y_rows = routing_.slots.data() + block.first;
    }
    return product;
  }

  /// silu(gate) * up of one position, rounded to the dtype, to `out` [F]; `gate_up` as above.
  void activate(int64_t position, const float* gate_up, std::byte* out) const {
    if (args_.saved_gate_up != nullptr) {
      const int64_t slot = routing_.slots[static_cast<std::size_t>(position)];
      gate_up = args_.saved_gate_up + slot * 2 * args_.expert_width;
    }
    silu_mul_row(
        {.gate_up = gate_up, .width = args_.expert_width, .y = out, .out_dtype = args_.dtype});
  }

  /// down_e of `activation` [rows, F], to the choices' slots.
  LinearArgs down(const Routing::Block& block, const std::byte* activation) const {
    LinearArgs product{.x = activation, .rows = block.rows, .x_stride = args_.expert_width};
    product.weight = &args_.experts[static_cast<std::size_t>(block.expert)].down;
    product.y = down_;
    product.y_stride = args_.hidden;
    product.y_rows = routing_.slots.data() + block.first;
    return product;
  }

  int64_t gate_up_row() const { return 2 * args_.expert_width; }  // floats
  int64_t activation_row() const { return args_.expert_width * dtype_bytes(args_.dtype); }

 private:
  const MoeArgs& args_;
  const Routing& routing_;
  float* down_;  // [T, K, D]
};

/// Many positions: a thread takes a block through all steps, which then meet in its caches.
void run_by_block(const Steps& steps, const Routing& routing, ThreadTeam& team) {
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      const Routing::Block& block = routing.blocks[static_cast<std::size_t>(b)];
      const int64_t gate_up_bytes = block.rows * steps.gate_up_row() * 4;
      std::byte* scratch = thread_scratch(gate_up_bytes + block.rows * steps.activation_row());
      auto* gate_up = reinterpret_cast<float*>(scratch);
      std::byte* activation = scratch + gate_up_bytes;
      linear_whole(steps.gate_up(block, gate_up));
      for (int64_t i = 0; i < block.rows; ++i) {
        steps.activate(block.first + i, gate_up + i * steps.gate_up_row(),
                       activation + i * steps.activation_row());
      }
      linear_whole(steps.down(block, activation));
    }
  };
  team.parallel_for(static_cast<int64_t>(routing.blocks.size()), 1, part);
}

}  // namespace

namespace {

/// Columns of one token's sum.
void combine_token(const MoeArgs& args, const float* rows, const float* weights, void* y,
                   DType dtype, int64_t token, int64_t column, int64_t count) {
  const int64_t slot = token * args.top_k;
  const CombineRow row{
      .rows = rows + slot * args.hidden + column,
      .stride = args.hidden,
      .expert_ids = args.expert_ids + slot,
      .weights = weights == nullptr ? nullptr : weights + slot,
      .top_k = args.top_k,
      .columns = count,
      .y = static_cast<std::byte*>(y) + (token * args.hidden + column) * dtype_bytes(dtype),
      .dtype = dtype};
  isa() == Isa::kAvx2 ? avx2::combine_row(row) : avx512::combine_row(row);
}

}  // namespace

void combine_columns(const MoeArgs& args, const float* rows, int64_t column, int64_t count) {
  for (int64_t token = 0; token < args.tokens; ++token) {
    combine_token(args, rows, args.weights, args.y, args.dtype, token, column, count);
  }
}

void combine(const MoeArgs& args, const float* rows, const float* weights, void* y, DType dtype,
             ThreadTeam& team) {
  auto part = [&](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      combine_token(args, rows, weights, y, dtype, token, 0, args.hidden);
    }
  };
  team.parallel_for(args.tokens, 4, part);
}

void moe(const MoeArgs& args, ThreadTeam& team) {
  validate(args);
  thread_local MoeWorkspace workspace;
  sort_by_expert(args, workspace.routing);
  if (!small_experts(args) || !by_block(workspace.routing, team)) {
    return moe_together(args, workspace, team);
  }
  float* down = workspace.down.reserve_as<float>(args.tokens * args.top_k * args.hidden);
  run_by_block(Steps(args, workspace.routing, down), workspace.routing, team);
  combine(args, down, args.weights, args.y, args.dtype, team);
}

}  // namespace mole::kernels
