#include <algorithm>

#include "base/check.h"
#include "kernels/cpu/isa.h"
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
    g_ = space.g.reserve_as<float>(positions * width_);
    h_ = space.h.reserve(positions * width_ * element_);
    dgate_up_ = space.dgate_up.reserve(positions * 2 * width_ * element_);
    dx_ = space.dx.reserve_as<float>(forward_.tokens * forward_.top_k * hidden_);
  }

  void run() {
    through_down();
    through_activation();
    pack_operands();
    through_gate_up();
    combine(forward_, dx_, nullptr, args_.dx, DType::kFloat32, team_);
  }

 private:
  /// Calls fn(expert, first position, rows) for every expert that was chosen.
  template <typename Fn>
  void each_expert(Fn fn) const {
    const std::vector<int64_t>& starts = space_.routing.starts;
    for (std::size_t e = 0; e + 1 < starts.size(); ++e) {
      if (starts[e] < starts[e + 1]) fn(e, starts[e], starts[e + 1] - starts[e]);
    }
  }

  /// g = down_e^T dy of every choice.
  void through_down() {
    space_.products.clear();
    each_expert([&](std::size_t e, int64_t first, int64_t rows) {
      LinearArgs product{.x = args_.dy, .rows = rows, .x_stride = hidden_};
      product.x_rows = space_.routing.tokens.data() + first;
      product.weight = &args_.experts_t[e].down_t;
      product.y = g_ + first * width_;
      product.y_stride = width_;
      space_.products.push_back(product);
    });
    linear_many(space_.products, team_);
  }

  void through_activation() {
    const auto row_backward =
        isa() == Isa::kAvx2 ? avx2::activation_backward_row : avx512::activation_backward_row;
    std::fill(args_.dweights, args_.dweights + forward_.tokens * forward_.top_k, 0.0f);
    auto part = [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        const int64_t slot = space_.routing.slots[static_cast<std::size_t>(p)];
        row_backward({.gate_up = forward_.saved_gate_up + slot * 2 * width_,
                      .g = g_ + p * width_,
                      .weight = forward_.weights[slot],
                      .width = width_,
                      .dtype = forward_.dtype,
                      .h = h_ + p * width_ * element_,
                      .dgate_up = dgate_up_ + p * 2 * width_ * element_,
                      .dweight = args_.dweights + slot});
      }
    };
    team_.parallel_for(space_.routing.positions(), 4, part);
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

  /// The gradients of x, gate_up and down, as one region.
  void through_gate_up() {
    space_.products.clear();
    each_expert([&](std::size_t e, int64_t first, int64_t rows) {
      const std::byte* dgate_up = dgate_up_ + first * 2 * width_ * element_;
      LinearArgs dx{.x = dgate_up, .rows = rows, .x_stride = 2 * width_};
      dx.weight = &args_.experts_t[e].gate_up_t;
      dx.y = dx_;
      dx.y_stride = hidden_;
      dx.y_rows = space_.routing.slots.data() + first;
      space_.products.push_back(dx);

      LinearArgs weight{.x = dgate_up, .rows = 2 * width_, .x_stride = 2 * width_};
      weight.x_transposed = weight.accumulate = true;
      weight.weight = &space_.packed_x[e];
      weight.y = args_.dgate_up[e];
      weight.y_stride = hidden_;
      space_.products.push_back(weight);

      weight.x = args_.dy;
      weight.x_rows = space_.routing.tokens.data() + first;
      weight.rows = weight.x_stride = hidden_;
      weight.weight = &space_.packed_h[e];
      weight.y = args_.ddown[e];
      weight.y_stride = width_;
      space_.products.push_back(weight);
    });
    linear_many(space_.products, team_);
  }

  const MoeBackwardArgs& args_;
  const MoeArgs& forward_;
  ThreadTeam& team_;
  Workspace& space_;
  int64_t width_ = 0, hidden_ = 0, element_ = 0;
  float* g_ = nullptr;
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
