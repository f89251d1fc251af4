#include <algorithm>
#include <cmath>

#include "kernels/cases/tolerance.h"
#include "kernels/moe/moe_cases.h"

namespace mole::kernels {
namespace {

class MoeBackwardCase : public KernelCase {
 public:
  MoeBackwardCase(const MoeShape& shape, CaseRandom& random)
      : in_(shape, random),
        dy_(shape.dtype, shape.tokens, shape.hidden),
        y_(shape.dtype, shape.tokens, shape.hidden),
        saved_(DType::kFloat32, shape.tokens * shape.top_k, 2 * shape.width),
        dx_(DType::kFloat32, shape.tokens, shape.hidden),
        dweights_(DType::kFloat32, shape.tokens, shape.top_k),
        dgate_up_(DType::kFloat32, shape.experts * 2 * shape.width, shape.hidden),
        ddown_(DType::kFloat32, shape.experts * shape.hidden, shape.width) {
    dy_.fill_normal(random);
    dgate_up_.fill_normal(random);
    ddown_.fill_normal(random);
    for (int64_t e = 0; e < shape.experts; ++e) {
      dgate_up_of_.push_back(static_cast<float*>(dgate_up_.row(e * 2 * shape.width)));
      ddown_of_.push_back(static_cast<float*>(ddown_.row(e * shape.hidden)));
    }
    if (shape.tokens <= 128) {
      for (int32_t& id : in_.expert_ids) {
        if (random.uniform() < 0.1) id = -1;
      }
    }
    ThreadTeam team(1);
    in_.pack(true, team);
    MoeArgs args = in_.args();
    args.y = y_.data();
    args.saved_gate_up = saved_.as<float>();
    moe(args, team);
  }

  std::string name() const override { return in_.name(); }
  DType dtype() const override { return in_.shape.dtype; }
  double flops() const override {
    const MoeShape& shape = in_.shape;
    return 12.0 * static_cast<double>(shape.tokens * shape.top_k) *
           static_cast<double>(shape.hidden * shape.width);
  }
  double bytes() const override {
    const int64_t weights = 3 * in_.shape.experts * in_.shape.hidden * in_.shape.width;
    const int64_t element = dtype_bytes(in_.shape.dtype);
    return static_cast<double>(weights * (element + 8) + in_.x.count() * (2 * element + 4) +
                               saved_.count() * 4);
  }
  std::vector<Tensor*> outputs() override { return {&dx_, &dweights_, &dgate_up_, &ddown_}; }

  void run(ThreadTeam& team) override {
    MoeBackwardArgs args;
    args.forward = in_.args();
    args.forward.saved_gate_up = saved_.as<float>();
    args.dy = dy_.data();
    args.experts_t = in_.packed_t;
    args.dx = dx_.as<float>();
    args.dweights = dweights_.as<float>();
    // A restored tensor may have moved.
    for (std::size_t e = 0; e < dgate_up_of_.size(); ++e) {
      const auto expert = static_cast<int64_t>(e);
      dgate_up_of_[e] = static_cast<float*>(dgate_up_.row(expert * 2 * in_.shape.width));
      ddown_of_[e] = static_cast<float*>(ddown_.row(expert * in_.shape.hidden));
    }
    args.dgate_up = dgate_up_of_.data();
    args.ddown = ddown_of_.data();
    moe_backward(args, team);
  }

  std::vector<Expectation> expect() override {
    std::vector<Expectation> out;
    out.push_back(start(dx_, "dx"));
    out.push_back(start(dweights_, "dweights"));
    out.push_back(start(dgate_up_, "dgate_up"));
    out.push_back(start(ddown_, "ddown"));
    std::fill(out[0].want.begin(), out[0].want.end(), 0.0);
    std::fill(out[1].want.begin(), out[1].want.end(), 0.0);
    const MoeRefArgs ref = in_.ref_args();
    const std::vector<double> dy = dy_.doubles();
    moe_backward_ref(
        ref, dy.data(),
        {out[0].want.data(), out[1].want.data(), out[2].want.data(), out[3].want.data()});
    for (std::size_t slot = 0; slot < in_.expert_ids.size(); ++slot) {
      if (in_.expert_ids[slot] >= 0) add_errors(ref, dy, slot, out);
    }
    return out;
  }

 private:
  /// What was there before, and the one rounding of adding to it.
  static Expectation start(const Tensor& output, const std::string& name) {
    Expectation out{&output, name, output.doubles(), {}};
    for (double& value : out.want) {
      out.tolerance.push_back(std::isnan(value) ? 0 : steps_tolerance(1, value));
    }
    return out;
  }

  /// The error that one choice brings to each gradient. A chain's bound is linear in its terms, so
  /// each term may bring gamma of the whole chain times its own size.
  void add_errors(const MoeRefArgs& ref, const std::vector<double>& dy, std::size_t slot,
                  std::vector<Expectation>& out) const {
    const auto hidden = static_cast<std::size_t>(ref.hidden);
    const auto width = static_cast<std::size_t>(ref.expert_width);
    const std::size_t token = slot / static_cast<std::size_t>(ref.top_k);
    const auto expert = static_cast<std::size_t>(ref.expert_ids[slot]);
    const double* gate_up_weight = ref.gate_up + expert * 2 * width * hidden;
    const double* down_weight = ref.down + expert * hidden * width;
    const DType dtype = in_.shape.dtype;
    const double weight = std::abs(ref.weights[slot]);

    Bounded x(hidden), slope(hidden);
    std::copy_n(ref.x + token * hidden, hidden, x.value.begin());
    std::copy_n(dy.begin() + static_cast<std::ptrdiff_t>(token * hidden), hidden,
                slope.value.begin());
    const Bounded gate_up = product(x, gate_up_weight, 2 * width, hidden, 1);
    const Bounded h = bounded_silu_mul(gate_up, dtype);
    const Bounded g = product(slope, down_weight, width, 1, width);
    Bounded scaled_g(width), scaled_h(width);
    for (std::size_t f = 0; f < width; ++f) {
      const double size = (std::abs(h.value[f]) + h.error[f]) * (std::abs(g.value[f]) + g.error[f]);
      out[1].tolerance[slot] +=
          size - std::abs(h.value[f] * g.value[f]) + chain_tolerance(ref.expert_width, size);
      scaled_g.value[f] = ref.weights[slot] * g.value[f];
      scaled_g.error[f] = weight * g.error[f] + steps_tolerance(1, scaled_g.value[f]);
      scaled_h.value[f] = ref.weights[slot] * h.value[f];
      scaled_h.error[f] = weight * h.error[f] + steps_tolerance(1, scaled_h.value[f]);
    }
    add_rounding(scaled_h, dtype);
    const Bounded dgate_up = bounded_silu_mul_backward(gate_up, scaled_g, dtype);
    const Bounded dx = product(dgate_up, gate_up_weight, hidden, 1, hidden);
    const int64_t chain = ref.tokens + ref.top_k + 1;
    for (std::size_t d = 0; d < hidden; ++d) {
      out[0].tolerance[token * hidden + d] +=
          dx.error[d] + chain_tolerance(ref.top_k, std::abs(dx.value[d]) + dx.error[d]);
    }
    add_outer(dgate_up, x.value, chain, out[2], expert * 2 * width * hidden);
    add_outer(slope, scaled_h, chain, out[3], expert * hidden * width);
  }

  /// a[i] b[j] into the tolerances of row i, column j from `at` on.
  static void add_outer(const Bounded& a, const Bounded& b, int64_t chain, Expectation& out,
                        std::size_t at) {
    for (std::size_t i = 0; i < a.size(); ++i) {
      for (std::size_t j = 0; j < b.size(); ++j, ++at) {
        const double exact = std::abs(a.value[i] * b.value[j]);
        const double size =
            (std::abs(a.value[i]) + a.error[i]) * (std::abs(b.value[j]) + b.error[j]);
        out.tolerance[at] += size - exact + chain_tolerance(chain, size);
      }
    }
  }
  static void add_outer(const Bounded& a, const std::vector<double>& b, int64_t chain,
                        Expectation& out, std::size_t at) {
    Bounded exact(b.size());
    exact.value = b;
    add_outer(a, exact, chain, out, at);
  }

  MoeInputs in_;
  Tensor dy_, y_, saved_, dx_, dweights_, dgate_up_, ddown_;
  std::vector<float*> dgate_up_of_, ddown_of_;
};

}  // namespace

CasePtr make_moe_backward_case(const MoeShape& shape, CaseRandom& random) {
  return std::make_unique<MoeBackwardCase>(shape, random);
}

}  // namespace mole::kernels
