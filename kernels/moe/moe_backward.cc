#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/scratch.h"
#include "kernels/moe/moe_impl.h"

namespace mole::kernels {
namespace {

/// Working memory of the calling thread, kept between calls. Rows are by position.
struct Workspace {
  Routing routing;
  Buffer g;         // [positions, F] float32: down^T dy
  Buffer h;         // [positions, F] dtype: the activation times the routing weight
  Buffer dgate_up;  // [positions, 2F] dtype
  Buffer dx;        // [T, K, D] float32
  std::vector<PackedWeight> packed_x, packed_h;  // [E] turned over, for the weights' gradients
  std::vector<PackTask> packs;
  std::vector<LinearArgs> products;
};

void validate(const MoeBackwardArgs& args) {
  const MoeArgs& forward = args.forward;
  MOLE_CHECK(forward.saved_gate_up != nullptr || forward.tokens == 0);
  MOLE_CHECK_EQ(args.experts_t.size(), forward.experts.size());
  for (const ExpertWeightsT& expert : args.experts_t) {
    MOLE_CHECK_EQ(expert.gate_up_t.n(), forward.hidden);
    MOLE_CHECK_EQ(expert.gate_up_t.k(), 2 * forward.expert_width);
    MOLE_CHECK_EQ(expert.down_t.n(), forward.expert_width);
    MOLE_CHECK_EQ(expert.down_t.k(), forward.hidden);
  }
}

class Backward {
 public:
  Backward(const MoeBackwardArgs& args, ThreadTeam& team, Workspace& space)
      : args_(args), forward_(args.forward), team_(team), space_(space) {
    sort_by_expert(forward_, space.routing);
    width_ = forward_.expert_width;
    hidden_ = forward_.hidden;
    element_ = dtype_bytes(forward_.dtype);
    const int64_t positions = space.routing.positions();
    h_ = space.h.reserve(positions * width_ * element_);
    dgate_up_ = space.dgate_up.reserve(positions * 2 * width_ * element_);
    dx_ = space.dx.reserve_as<float>(forward_.tokens * forward_.top_k * hidden_);
  }

  void run() {
    std::fill(args_.dweights, args_.dweights + forward_.tokens * forward_.top_k, 0.0f);
    by_block(space_.routing, team_) ? back_by_block() : back_by_step();
    pack_operands();
    weight_gradients();
    combine(forward_, dx_, nullptr, args_.dx, DType::kFloat32, team_);
  }

 private:
  using Block = Routing::Block;

  /// Few positions: every product is split over all threads, step by step.
  void back_by_step() {
    auto* g = space_.g.reserve_as<float>(space_.routing.positions() * width_);
    space_.products.clear();
    for (const Block& block : space_.routing.blocks) {
      space_.products.push_back(through_down(block, g + block.first * width_));
    }
    linear_many(space_.products, team_);
    auto part = [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) through_activation(p, g + p * width_);
    };
    team_.parallel_for(space_.routing.positions(), 4, part);
    space_.products.clear();
    for (const Block& block : space_.routing.blocks) {
      space_.products.push_back(through_gate_up(block));
    }
    linear_many(space_.products, team_);
  }

  /// Many positions: a thread takes a block through all steps, which then meet in its caches.
  void back_by_block() {
    auto part = [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const Block& block = space_.routing.blocks[static_cast<std::size_t>(b)];
        auto* g = reinterpret_cast<float*>(thread_scratch(block.rows * width_ * 4));
        linear_whole(through_down(block, g));
        for (int64_t i = 0; i < block.rows; ++i)
          through_activation(block.first + i, g + i * width_);
        linear_whole(through_gate_up(block));
      }
    };
    team_.parallel_for(static_cast<int64_t>(space_.routing.blocks.size()), 1, part);
  }

  /// g = down_e^T dy, to `g` [rows, F].
  LinearArgs through_down(const Block& block, float* g) const {
    LinearArgs product{.x = args_.dy, .rows = block.rows, .x_stride = hidden_};
    product.x_rows = space_.routing.tokens.data() + block.first;
    product.weight = &args_.experts_t[static_cast<std::size_t>(block.expert)].down_t;
    product.y = g;
    product.y_stride = width_;
    return product;
  }

  /// One position: from g to dgate_up, h and the routing weight's gradient.
  void through_activation(int64_t position, float* g) const {
    const int64_t slot = space_.routing.slots[static_cast<std::size_t>(position)];
    const ActivationRow row{.gate_up = forward_.saved_gate_up + slot * 2 * width_,
                            .g = g,
                            .weight = forward_.weights[slot],
                            .width = width_,
                            .dtype = forward_.dtype,
                            .h = h_ + position * width_ * element_,
                            .dgate_up = dgate_up_ + position * 2 * width_ * element_,
                            .dweight = args_.dweights + slot};
    isa() == Isa::kAvx2 ? avx2::activation_backward_row(row) : avx512::activation_backward_row(row);
  }

  /// gate_up_e^T dgate_up, to the choices' slots.
  LinearArgs through_gate_up(const Block& block) const {
    LinearArgs product{.rows = block.rows, .x_stride = 2 * width_};
    product.x = dgate_up_ + block.first * 2 * width_ * element_;
    product.weight = &args_.experts_t[static_cast<std::size_t>(block.expert)].gate_up_t;
    product.y = dx_;
    product.y_stride = hidden_;
    product.y_rows = space_.routing.slots.data() + block.first;
    return product;
  }

  /// Calls fn(expert, first position, rows) for every expert that was chosen.
  template <typename Fn>
  void each_expert(Fn fn) const {
    const std::vector<int64_t>& starts = space_.routing.starts;
    for (std::size_t e = 0; e + 1 < starts.size(); ++e) {
      if (starts[e] < starts[e + 1]) fn(e, starts[e], starts[e + 1] - starts[e]);
    }
  }

  /// x and h of each expert's tokens, turned over: [D, rows] and [F, rows].
  void pack_operands() {
    const std::size_t experts = forward_.experts.size();
    if (space_.packed_x.size() < experts) {
      space_.packed_x.resize(experts);
      space_.packed_h.resize(experts);
    }
    space_.packs.clear();
    each_expert([&](std::size_t e, int64_t first, int64_t rows) {
      PackSource x{forward_.x, forward_.dtype, hidden_, rows, hidden_, true};
      x.rows = space_.routing.tokens.data() + first;
      space_.packs.push_back({x, &space_.packed_x[e]});
      const PackSource h{
          h_ + first * width_ * element_, forward_.dtype, width_, rows, width_, true};
      space_.packs.push_back({h, &space_.packed_h[e]});
    });
    pack_many(space_.packs, team_);
  }

  void weight_gradients() {
    space_.products.clear();
    each_expert([&](std::size_t e, int64_t first, int64_t rows) {
      (void)rows;  // the packed operands know it
      LinearArgs product{.rows = 2 * width_, .x_stride = 2 * width_};
      product.x = dgate_up_ + first * 2 * width_ * element_;
      product.x_transposed = product.accumulate = true;
      product.weight = &space_.packed_x[e];
      product.y = args_.dgate_up[e];
      product.y_stride = hidden_;
      space_.products.push_back(product);

      product.x = args_.dy;
      product.x_rows = space_.routing.tokens.data() + first;
      product.rows = product.x_stride = hidden_;
      product.weight = &space_.packed_h[e];
      product.y = args_.ddown[e];
      product.y_stride = width_;
      space_.products.push_back(product);
    });
    linear_many(space_.products, team_);
  }

  const MoeBackwardArgs& args_;
  const MoeArgs& forward_;
  ThreadTeam& team_;
  Workspace& space_;
  int64_t width_ = 0, hidden_ = 0, element_ = 0;
  std::byte* h_ = nullptr;
  std::byte* dgate_up_ = nullptr;
  float* dx_ = nullptr;
};

}  // namespace

void moe_backward(const MoeBackwardArgs& args, ThreadTeam& team) {
  validate(args);
  thread_local Workspace workspace;
  Backward(args, team, workspace).run();
}

}  // namespace mole::kernels
