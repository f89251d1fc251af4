#include "kernels/moe/moe_cases.h"

#include <algorithm>
#include <cmath>

#include "kernels/cases/tolerance.h"

namespace mole::kernels {
namespace {

class MoeCase : public KernelCase {
 public:
  MoeCase(const MoeShape& shape, bool save, CaseRandom& random)
      : in_(shape, random), save_(save), y_(shape.dtype, shape.tokens, shape.hidden) {
    if (save) {
      saved_ = Tensor(DType::kFloat32, shape.tokens * shape.top_k, 2 * shape.width);
    }
    if (shape.tokens <= 128) {
      // Choices without an expert, which experts on other ranks leave behind.
      for (int32_t& id : in_.expert_ids) {
        if (random.uniform() < 0.1) id = -1;
      }
    }
  }

  std::string name() const override { return in_.name() + (save_ ? " saved" : ""); }
  DType dtype() const override { return in_.shape.dtype; }
  double flops() const override {
    const MoeShape& shape = in_.shape;
    return 6.0 * static_cast<double>(shape.tokens * shape.top_k) *
           static_cast<double>(shape.hidden * shape.width);
  }
  double bytes() const override {
    std::vector<bool> chosen(static_cast<std::size_t>(in_.shape.experts));
    for (const int32_t id : in_.expert_ids) {
      if (id >= 0) chosen[static_cast<std::size_t>(id)] = true;
    }
    const auto experts = std::count(chosen.begin(), chosen.end(), true);
    const int64_t elements = experts * 3 * in_.shape.hidden * in_.shape.width + 2 * in_.x.count();
    return static_cast<double>(elements * dtype_bytes(in_.shape.dtype) + saved_.count() * 4);
  }
  std::vector<Tensor*> outputs() override { return {&y_, &saved_}; }

  void run(ThreadTeam& team) override { rows(0, in_.shape.tokens, team); }
  int64_t independent_rows() const override { return in_.shape.tokens; }
  void run_row(int64_t row, ThreadTeam& team) override { rows(row, 1, team); }

  std::vector<Expectation> expect() override {
    const MoeShape& shape = in_.shape;
    const auto hidden = static_cast<std::size_t>(shape.hidden);
    const auto width = static_cast<std::size_t>(shape.width);
    const MoeRefArgs ref = in_.ref_args();
    Expectation y{&y_, "y", std::vector<double>(static_cast<std::size_t>(y_.count())), {}};
    moe_ref(ref, y.want.data());
    y.tolerance.assign(y.want.size(), 0.0);
    for (std::size_t slot = 0; slot < in_.expert_ids.size(); ++slot) {
      if (in_.expert_ids[slot] < 0) continue;
      const std::size_t token = slot / static_cast<std::size_t>(shape.top_k);
      const auto expert = static_cast<std::size_t>(in_.expert_ids[slot]);
      Bounded x(hidden);
      std::copy_n(ref.x + token * hidden, hidden, x.value.begin());
      const Bounded gate_up =
          product(x, ref.gate_up + expert * 2 * width * hidden, 2 * width, hidden, 1);
      const Bounded out = product(bounded_silu_mul(gate_up, shape.dtype),
                                  ref.down + expert * hidden * width, hidden, width, 1);
      for (std::size_t d = 0; d < hidden; ++d) {
        const double weight = std::abs(ref.weights[slot]);
        y.tolerance[token * hidden + d] +=
            weight * out.error[d] +
            chain_tolerance(shape.top_k, weight * (std::abs(out.value[d]) + out.error[d]));
      }
    }
    for (std::size_t i = 0; i < y.want.size(); ++i) {
      y.tolerance[i] += rounding_tolerance(std::abs(y.want[i]) + y.tolerance[i], shape.dtype);
    }
    return {y};
  }

 private:
  void rows(int64_t first, int64_t count, ThreadTeam& team) {
    in_.pack(false, team);
    MoeArgs args = in_.args();
    args.x = in_.x.row(first);
    args.tokens = count;
    args.expert_ids += first * args.top_k;
    args.weights += first * args.top_k;
    args.y = y_.row(first);
    if (save_) args.saved_gate_up = static_cast<float*>(saved_.row(first * args.top_k));
    moe(args, team);
  }

  MoeInputs in_;
  bool save_;
  Tensor y_, saved_;
};

MoeShape awkward_shape(CaseRandom& random) {
  MoeShape shape;
  shape.dtype = random.float_dtype();
  shape.tokens = random.awkward_rows();
  shape.hidden = random.awkward_size();
  shape.width = random.awkward_size();
  shape.experts = random.between(1, 9);
  shape.top_k = static_cast<int32_t>(random.between(1, std::min<int64_t>(shape.experts, 4)));
  return shape;
}

/// Training's sizes, and (forward only) those of a large model's decode.
std::vector<MoeShape> bench_shapes(bool decode) {
  std::vector<MoeShape> out;
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    out.push_back({dtype, 2048, 256, 128, 16, 4});
    out.push_back({dtype, 4096, 512, 256, 16, 4});
    if (!decode) continue;
    out.push_back({dtype, 1, 256, 128, 16, 4});
    out.push_back({dtype, 8, 256, 128, 16, 4});
  }
  if (decode) {
    out.push_back({DType::kBFloat16, 1, 2048, 1408, 16, 6});
    out.push_back({DType::kBFloat16, 32, 2048, 1408, 16, 6});
  }
  return out;
}

}  // namespace

std::vector<int32_t> random_choices(const MoeShape& shape, CaseRandom& random) {
  std::vector<int32_t> out;
  for (int64_t t = 0; t < shape.tokens; ++t) {
    const auto first = random.between(0, shape.experts - 1);
    const int64_t step = shape.experts > 1 ? random.between(1, shape.experts - 1) : 1;
    for (int32_t j = 0; j < shape.top_k; ++j) {
      const auto begin = out.end() - j;
      auto expert = static_cast<int32_t>((first + j * step) % shape.experts);
      while (std::find(begin, out.end(), expert) != out.end()) {
        expert = static_cast<int32_t>((expert + 1) % shape.experts);
      }
      out.push_back(expert);
    }
  }
  return out;
}

MoeInputs::MoeInputs(const MoeShape& moe_shape, CaseRandom& random)
    : shape(moe_shape),
      x(shape.dtype, shape.tokens, shape.hidden),
      gate_up(shape.dtype, shape.experts * 2 * shape.width, shape.hidden),
      down(shape.dtype, shape.experts * shape.hidden, shape.width),
      weights(DType::kFloat32, shape.tokens, shape.top_k),
      expert_ids(random_choices(shape, random)) {
  x.fill_normal(random);
  gate_up.fill_normal(random, 1 / std::sqrt(static_cast<double>(shape.hidden)));
  down.fill_normal(random, 1 / std::sqrt(static_cast<double>(shape.width)));
  weights.fill_normal(random);
}

std::string MoeInputs::name() const {
  return "tokens=" + std::to_string(shape.tokens) + " hidden=" + std::to_string(shape.hidden) +
         " width=" + std::to_string(shape.width) + " experts=" + std::to_string(shape.experts) +
         " top_k=" + std::to_string(shape.top_k) + " " + std::string(dtype_name(shape.dtype));
}

void MoeInputs::pack(bool with_transposes, ThreadTeam& team) {
  if (!packed.empty()) return;
  packed.resize(static_cast<std::size_t>(shape.experts));
  packed_t.resize(with_transposes ? packed.size() : 0);
  const int64_t hidden = shape.hidden, width = shape.width;
  for (std::size_t e = 0; e < packed.size(); ++e) {
    const auto expert = static_cast<int64_t>(e);
    const void* up = gate_up.row(expert * 2 * width);
    const void* to_hidden = down.row(expert * hidden);
    packed[e].gate_up.pack(up, shape.dtype, 2 * width, hidden, hidden, false, team);
    packed[e].down.pack(to_hidden, shape.dtype, hidden, width, width, false, team);
    if (!with_transposes) continue;
    packed_t[e].gate_up_t.pack(up, shape.dtype, hidden, 2 * width, hidden, true, team);
    packed_t[e].down_t.pack(to_hidden, shape.dtype, width, hidden, width, true, team);
  }
}

MoeArgs MoeInputs::args() {
  MoeArgs out{.x = x.data(), .dtype = shape.dtype, .tokens = shape.tokens};
  out.hidden = shape.hidden;
  out.expert_width = shape.width;
  out.top_k = shape.top_k;
  out.expert_ids = expert_ids.data();
  out.weights = weights.as<float>();
  out.experts = packed;
  return out;
}

MoeRefArgs MoeInputs::ref_args() {
  x64 = x.doubles();
  gate_up64 = gate_up.doubles();
  down64 = down.doubles();
  weights64 = weights.doubles();
  MoeRefArgs out{shape.tokens, shape.hidden, shape.width, shape.top_k};
  out.x = x64.data();
  out.expert_ids = expert_ids.data();
  out.weights = weights64.data();
  out.gate_up = gate_up64.data();
  out.down = down64.data();
  return out;
}

std::vector<OpCases> moe_cases() {
  auto awkward = [](CaseRandom& random) -> CasePtr {
    const MoeShape shape = awkward_shape(random);
    return std::make_unique<MoeCase>(shape, random.coin(), random);
  };
  auto awkward_backward = [](CaseRandom& random) {
    return make_moe_backward_case(awkward_shape(random), random);
  };
  OpCases forward{"moe", awkward, {}}, backward{"moe_backward", awkward_backward, {}};
  for (const MoeShape& shape : bench_shapes(true)) {
    forward.bench.push_back([shape](CaseRandom& random) -> CasePtr {
      return std::make_unique<MoeCase>(shape, false, random);
    });
  }
  forward.memory = moe_memory_cases();
  for (const MoeShape& shape : bench_shapes(false)) {
    backward.bench.push_back(
        [shape](CaseRandom& random) { return make_moe_backward_case(shape, random); });
  }
  return {forward, backward};
}

}  // namespace mole::kernels
