#include "kernels/rms_norm/rms_norm.h"

#include <gtest/gtest.h>

#include "tests/kernels/op_support.h"

namespace mole::kernels::testing {
namespace {

constexpr float kEps = 1e-6f;

struct Shape {
  int64_t rows, dim, pad;  // row stride = dim + pad
};
const Shape kShapes[] = {{0, 16, 0}, {1, 1, 0},   {1, 7, 3},   {3, 16, 0},  {5, 17, 1},
                         {2, 31, 5}, {9, 64, 16}, {4, 576, 8}, {33, 100, 0}};

/// Relative error of 1/rms in roundoffs: half of the sum's (chain length + 4 pairwise), and the
/// divide, the add of eps, the root and the reciprocal.
double inverse_error(int64_t dim) { return (static_cast<double>(dim) / 16 + 5) / 2 + 4; }

template <typename T>
struct Case {
  explicit Case(Shape s)
      : shape(s),
        stride(s.dim + s.pad),
        x(s.rows * stride),
        weight(random_values<T>(s.dim, 2)),
        y(s.rows * stride),
        dy(random_values<T>(s.rows * s.dim, 3)),
        inverse(s.rows),
        dx(s.rows * s.dim),
        dweight(s.dim) {
    Random random(1);
    for (int64_t r = 0; r < s.rows; ++r) {
      for (int64_t i = 0; i < s.dim; ++i) assign(x[r * stride + i], 3 * random.normal());
    }
  }
  RmsNormArgs forward() {
    return {x.data(),  weight.data(), y.data(), dtype_of<T>(), shape.rows,
            shape.dim, stride,        stride,   kEps,          inverse.data()};
  }
  RmsNormBackwardArgs backward() { return {forward(), dy.data(), dx.data(), dweight.data()}; }
  void run(ThreadTeam& team) {
    rms_norm(forward(), team);
    for (int64_t i = 0; i < shape.dim; ++i) dweight[i] = 0.25f;
    rms_norm_backward(backward(), team);
  }
  std::vector<double> packed(Guarded<T>& strided) {
    std::vector<double> out;
    for (int64_t r = 0; r < shape.rows; ++r) {
      for (int64_t i = 0; i < shape.dim; ++i) out.push_back(to_double(strided[r * stride + i]));
    }
    return out;
  }

  Shape shape;
  int64_t stride;
  Guarded<T> x, weight, y, dy;
  Guarded<float> inverse, dx, dweight;
};

template <typename T>
void check_forward(Case<T>& c) {
  const std::vector<double> x = c.packed(c.x), weight = c.weight.doubles();
  std::vector<double> expected(x.size()), bound;
  rms_norm_ref(x.data(), weight.data(), c.shape.rows, c.shape.dim, kEps, expected.data());
  const double relative = (inverse_error(c.shape.dim) + 2) * kRoundoff + roundoff_of<T>();
  for (double y : expected) bound.push_back(relative * std::abs(y));
  expect_within(c.packed(c.y), expected, bound, "y");
  EXPECT_TRUE(c.y.guards_intact() && c.inverse.guards_intact());
  for (int64_t r = 0; r < c.shape.rows; ++r) {
    for (int64_t i = c.shape.dim; i < c.stride; ++i) {
      EXPECT_TRUE(std::isnan(to_double(c.y[r * c.stride + i]))) << "wrote between rows";
    }
  }
}

template <typename T>
void check_backward(Case<T>& c) {
  const int64_t rows = c.shape.rows, dim = c.shape.dim;
  const std::vector<double> x = c.packed(c.x), weight = c.weight.doubles(), dy = c.dy.doubles();
  std::vector<double> dx(x.size()), dweight(weight.size());
  rms_norm_backward_ref(x.data(), weight.data(), dy.data(), rows, dim, kEps, dx.data(),
                        dweight.data());
  std::vector<double> dx_bound(x.size()), dweight_bound(weight.size(), kRoundoff);
  for (int64_t r = 0; r < rows; ++r) {
    double squares = 0, mean = 0;
    for (int64_t i = 0; i < dim; ++i) squares += x[r * dim + i] * x[r * dim + i];
    const double inverse = 1 / std::sqrt(squares / static_cast<double>(dim) + kEps);
    for (int64_t i = 0; i < dim; ++i) {
      mean += std::abs(dy[r * dim + i] * weight[i] * x[r * dim + i]) * inverse /
              static_cast<double>(dim);
    }
    const double normed_error = inverse_error(dim) + 1;
    for (int64_t i = 0; i < dim; ++i) {
      const double normed = std::abs(x[r * dim + i]) * inverse;
      const double chain = static_cast<double>(dim) / 16 + 8 + 2 * normed_error;
      const double g = std::abs(dy[r * dim + i] * weight[i]);
      dx_bound[r * dim + i] =
          kRoundoff * inverse * (g * (normed_error + 3) + normed * mean * (chain + normed_error));
      dweight_bound[i] += kRoundoff * std::abs(dy[r * dim + i]) * normed *
                          (static_cast<double>(rows) + normed_error + 1);
    }
  }
  for (double& value : dweight) value += 0.25;
  for (double& value : dweight_bound) value += kRoundoff * 0.25 * static_cast<double>(rows);
  expect_within(c.dx.doubles(), dx, dx_bound, "dx");
  expect_within(c.dweight.doubles(), dweight, dweight_bound, "dweight");
  EXPECT_TRUE(c.dx.guards_intact() && c.dweight.guards_intact());
}

template <typename T>
void check_shape(Shape shape) {
  SCOPED_TRACE("rows " + std::to_string(shape.rows) + " dim " + std::to_string(shape.dim));
  Case<T> first(shape);
  ThreadTeam one(1);
  first.run(one);
  check_forward(first);
  check_backward(first);
  for_each_isa_and_team([&](ThreadTeam& team) {
    Case<T> again(shape);
    again.run(team);
    EXPECT_TRUE(first.y.same_bits(again.y) && first.dx.same_bits(again.dx));
    EXPECT_TRUE(first.dweight.same_bits(again.dweight) && first.inverse.same_bits(again.inverse));
  });
}

TEST(RmsNorm, MatchesReferenceWithEqualBitsEverywhere) {
  for (Shape shape : kShapes) {
    check_shape<float>(shape);
    check_shape<BFloat16>(shape);
  }
}

TEST(RmsNorm, ARowDoesNotDependOnTheOthers) {
  Case<BFloat16> all({6, 72, 0});
  ThreadTeam team(2);
  all.run(team);
  for (int64_t r = 0; r < 6; ++r) {
    Guarded<BFloat16> alone(72);
    RmsNormArgs args = all.forward();
    args.x = all.x.data() + r * 72;
    args.y = alone.data();
    args.rows = 1;
    rms_norm(args, team);
    EXPECT_EQ(0, std::memcmp(alone.data(), all.y.data() + r * 72, 144));
  }
}

TEST(RmsNorm, InPlaceGivesTheSameBits) {
  Case<float> c({5, 50, 2});
  ThreadTeam team(2);
  c.run(team);
  RmsNormArgs args = c.forward();
  args.y = c.x.data();
  rms_norm(args, team);
  EXPECT_EQ(c.packed(c.x), c.packed(c.y));
}

TEST(RmsNorm, KeepsNan) {
  Case<float> c({2, 20, 0});
  c.x[3] = std::numeric_limits<float>::quiet_NaN();
  ThreadTeam team(1);
  rms_norm(c.forward(), team);
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_TRUE(std::isnan(c.y[i]));
    EXPECT_FALSE(std::isnan(c.y[20 + i]));
  }
}

TEST(RmsNorm, ReferenceGradientMatchesDifferences) {
  const int64_t rows = 3, dim = 11;
  std::vector<double> x = random_doubles(rows * dim, 5), weight = random_doubles(dim, 6);
  const std::vector<double> dy = random_doubles(rows * dim, 7);
  std::vector<double> y(x.size()), dx(x.size()), dweight(weight.size());
  rms_norm_backward_ref(x.data(), weight.data(), dy.data(), rows, dim, 1e-3, dx.data(),
                        dweight.data());
  auto loss = [&] {
    rms_norm_ref(x.data(), weight.data(), rows, dim, 1e-3, y.data());
    return dot(y, dy);
  };
  expect_gradient(x, dx, loss, 30, "dx");
  expect_gradient(weight, dweight, loss, 11, "dweight");
}

}  // namespace
}  // namespace mole::kernels::testing
