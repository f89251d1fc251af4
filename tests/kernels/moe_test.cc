// moe against the operations it is made of, and the references' own gradients against finite
// differences.
#include "kernels/moe/moe.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "kernels/cases/tolerance.h"
#include "kernels/moe/moe_cases.h"
#include "kernels/silu_mul/silu_mul.h"

namespace mole::kernels {
namespace {

/// y[t] as linear, silu_mul and a sum of the choices in order give it.
Tensor by_composition(MoeInputs& in, ThreadTeam& team) {
  const MoeShape& shape = in.shape;
  Tensor y(shape.dtype, shape.tokens, shape.hidden);
  std::vector<float> gate_up(static_cast<std::size_t>(2 * shape.width));
  std::vector<float> out(static_cast<std::size_t>(shape.hidden));
  Tensor activation(shape.dtype, 1, shape.width);
  for (int64_t t = 0; t < shape.tokens; ++t) {
    std::vector<float> sum(out.size());
    for (int32_t j = 0; j < shape.top_k; ++j) {
      const int64_t slot = t * shape.top_k + j;
      const int32_t expert = in.expert_ids[static_cast<std::size_t>(slot)];
      if (expert < 0) continue;
      const ExpertWeights& weights = in.packed[static_cast<std::size_t>(expert)];
      LinearArgs up{.x = in.x.row(t), .rows = 1, .x_stride = shape.hidden};
      up.weight = &weights.gate_up;
      up.y = gate_up.data();
      up.y_stride = 2 * shape.width;
      linear(up, team);
      silu_mul({.gate_up = gate_up.data(),
                .rows = 1,
                .width = shape.width,
                .y = activation.data(),
                .out_dtype = shape.dtype},
               team);
      LinearArgs down{.x = activation.data(), .rows = 1, .x_stride = shape.width};
      down.weight = &weights.down;
      down.y = out.data();
      down.y_stride = shape.hidden;
      linear(down, team);
      const auto weight = static_cast<float>(in.weights.at(t, j));
      for (std::size_t d = 0; d < out.size(); ++d) sum[d] = std::fma(weight, out[d], sum[d]);
    }
    for (int64_t d = 0; d < shape.hidden; ++d) y.set(t, d, sum[static_cast<std::size_t>(d)]);
  }
  return y;
}

TEST(Moe, IsTheCompositionOfItsParts) {
  ThreadTeam team(2);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    // Few positions go step by step, many block by block.
    for (const int64_t tokens : {1, 3, 200}) {
      CaseRandom random(static_cast<uint64_t>(tokens));
      MoeInputs in({dtype, tokens, 48, 40, 5, 2}, random);
      in.expert_ids[0] = -1;
      in.pack(false, team);
      Tensor y(dtype, tokens, 48);
      MoeArgs args = in.args();
      args.y = y.data();
      moe(args, team);
      EXPECT_TRUE(y.bytes() == by_composition(in, team).bytes())
          << tokens << " tokens, " << dtype_name(dtype);
    }
  }
}

// Experts too large for a thread's caches are shared by all threads, in blocks of at most 256 rows
// and runs of columns; a width that is no whole panel, and one of whole runs, whose gate and up may
// be activated in pairs of panels; training keeps gate and up besides.
void expect_composition(DType dtype, int64_t tokens, int64_t width) {
  CaseRandom random(static_cast<uint64_t>(tokens));
  MoeInputs in({dtype, tokens, 648, width, 3, 2}, random);
  in.expert_ids[0] = -1;
  ThreadTeam team(3);
  in.pack(false, team);
  Tensor want = by_composition(in, team);
  for (const bool save : {false, true}) {
    Tensor y(dtype, tokens, 648), saved(DType::kFloat32, tokens * 2, 2 * width);
    MoeArgs args = in.args();
    args.y = y.data();
    if (save) args.saved_gate_up = saved.as<float>();
    moe(args, team);
    EXPECT_TRUE(y.bytes() == want.bytes())
        << tokens << " tokens, width " << width << ", " << dtype_name(dtype);
    EXPECT_TRUE(saved.intact());
  }
}

TEST(Moe, LargeExpertsAreTheCompositionOfTheirParts) {
  for (const int64_t tokens : {1, 2, 40, 400}) {
    for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      expect_composition(dtype, tokens, 600);
    }
    // Rows a block: some 34, which end in a part of a tile, and more than 256 cut in two.
    expect_composition(DType::kBFloat16, tokens + 11, 640);
  }
}

// A central difference of step h errs by h^2 f'''/6 + 2^-53 |f| / h: with h = 1e-4 and values of
// order 1 that is under 1e-7.
constexpr double kStep = 1e-4, kDifferenceTolerance = 1e-7;

/// Checks d(loss)/d(values[i]) against `gradient` for some i.
void check_gradient(std::vector<double>& values, const std::vector<double>& gradient,
                    const std::function<double()>& loss, const char* name, CaseRandom& random) {
  for (int i = 0; i < 40; ++i) {
    const auto at =
        static_cast<std::size_t>(random.between(0, static_cast<int64_t>(values.size()) - 1));
    const double before = values[at];
    values[at] = before + kStep;
    const double above = loss();
    values[at] = before - kStep;
    const double below = loss();
    values[at] = before;
    EXPECT_NEAR(gradient[at], (above - below) / (2 * kStep), kDifferenceTolerance)
        << name << "[" << at << "]";
  }
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

TEST(MoeRef, BackwardIsTheDerivativeOfTheForward) {
  CaseRandom random(11);
  MoeInputs in({DType::kFloat32, 4, 6, 5, 3, 2}, random);
  in.expert_ids[3] = -1;
  const MoeRefArgs args = in.ref_args();
  std::vector<double> dy;
  for (int64_t i = 0; i < in.x.count(); ++i) dy.push_back(random.normal());
  std::vector<double> dx(in.x64.size()), dweights(in.weights64.size());
  std::vector<double> dgate_up(in.gate_up64.size()), ddown(in.down64.size());
  moe_backward_ref(args, dy.data(), {dx.data(), dweights.data(), dgate_up.data(), ddown.data()});
  auto loss = [&] {
    std::vector<double> y(dy.size());
    moe_ref(args, y.data());
    return dot(y, dy);
  };
  check_gradient(in.x64, dx, loss, "dx", random);
  check_gradient(in.weights64, dweights, loss, "dweights", random);
  check_gradient(in.gate_up64, dgate_up, loss, "dgate_up", random);
  check_gradient(in.down64, ddown, loss, "ddown", random);
}

TEST(SiluMulRef, BackwardIsTheDerivativeOfTheForward) {
  CaseRandom random(12);
  constexpr int64_t kRows = 3, kWidth = 7;
  std::vector<double> gate_up, dy;
  for (int64_t i = 0; i < kRows * 2 * kWidth; ++i) gate_up.push_back(2 * random.normal());
  for (int64_t i = 0; i < kRows * kWidth; ++i) dy.push_back(random.normal());
  std::vector<double> dgate_up(gate_up.size());
  silu_mul_backward_ref(gate_up.data(), dy.data(), dgate_up.data(), kRows, kWidth);
  auto loss = [&] {
    std::vector<double> y(dy.size());
    silu_mul_ref(gate_up.data(), y.data(), kRows, kWidth);
    return dot(y, dy);
  };
  check_gradient(gate_up, dgate_up, loss, "dgate_up", random);
}

}  // namespace
}  // namespace mole::kernels
