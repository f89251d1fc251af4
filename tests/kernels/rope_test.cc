#include "kernels/rope/rope.h"

#include <gtest/gtest.h>

#include "tests/kernels/op_support.h"

namespace mole::kernels::testing {
namespace {

struct Shape {
  int64_t rows;
  int32_t heads, dim;
  int64_t head_pad, row_pad;
};
const Shape kShapes[] = {{0, 2, 8, 0, 0},    {1, 1, 2, 0, 0},  {3, 2, 6, 4, 1},  {7, 3, 16, 32, 0},
                         {4, 1, 64, 512, 0}, {5, 2, 66, 2, 7}, {2, 8, 128, 0, 0}};
constexpr double kFactor = 1.17;

std::vector<double> frequencies(int32_t dim) {
  std::vector<double> out;
  for (int32_t i = 0; i < dim / 2; ++i) out.push_back(std::pow(10000.0, -2.0 * i / dim));
  return out;
}

template <typename T>
struct Case {
  Case(Shape s, RopeLayout l, bool inv)
      : shape(s),
        layout(l),
        inverse(inv),
        head_stride(s.dim + s.head_pad),
        row_stride(s.heads * head_stride + s.row_pad),
        x(s.rows * row_stride),
        table(make_rope_table(frequencies(s.dim), 5000, kFactor)) {
    Random random(11);
    for (int64_t r = 0; r < s.rows; ++r) {
      positions.push_back(r == 0 ? 4999 : static_cast<int32_t>(random.integer(0, 4999)));
      for (int64_t i = 0; i < s.heads * s.dim; ++i) assign(at(r, i), random.normal());
    }
  }
  T& at(int64_t r, int64_t i) {
    return x[r * row_stride + i / shape.dim * head_stride + i % shape.dim];
  }
  void run(ThreadTeam& team) {
    rope({x.data(), dtype_of<T>(), shape.rows, shape.heads, row_stride, head_stride,
          positions.data(), &table, layout, inverse},
         team);
  }
  std::vector<double> packed() {
    std::vector<double> out;
    for (int64_t r = 0; r < shape.rows; ++r) {
      for (int64_t i = 0; i < shape.heads * shape.dim; ++i) out.push_back(to_double(at(r, i)));
    }
    return out;
  }
  Shape shape;
  RopeLayout layout;
  bool inverse;
  int64_t head_stride, row_stride;
  Guarded<T> x;
  std::vector<int32_t> positions;
  RopeTable table;
};

template <typename T>
void check_shape(Shape shape, RopeLayout layout, bool inverse) {
  SCOPED_TRACE("rows " + std::to_string(shape.rows) + " dim " + std::to_string(shape.dim));
  Case<T> first(shape, layout, inverse);
  const std::vector<double> before = first.packed();
  std::vector<double> expected = before, bound(before.size());
  rope_ref(expected.data(), shape.rows, shape.heads, first.positions.data(), frequencies(shape.dim),
           kFactor, layout, inverse);
  const int64_t half = shape.dim / 2;
  for (size_t i = 0; i < before.size(); ++i) {
    const size_t in_head = i % static_cast<size_t>(shape.dim), head = i - in_head;
    const size_t h = static_cast<size_t>(half);
    const size_t other =
        head + (layout == RopeLayout::kInterleaved ? in_head ^ 1 : (in_head + h) % (2 * h));
    // The table's rounding, the product's, the chain's: three; then the result's.
    bound[i] = 3 * kRoundoff * kFactor * (std::abs(before[i]) + std::abs(before[other])) +
               roundoff_of<T>() * std::abs(expected[i]);
  }
  ThreadTeam one(1);
  first.run(one);
  expect_within(first.packed(), expected, bound, "x");
  EXPECT_TRUE(first.x.guards_intact());
  for_each_isa_and_team([&](ThreadTeam& team) {
    Case<T> again(shape, layout, inverse);
    again.run(team);
    EXPECT_TRUE(first.x.same_bits(again.x));
  });
}

TEST(Rope, MatchesReferenceWithEqualBitsEverywhere) {
  for (Shape shape : kShapes) {
    for (RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kHalfSplit}) {
      for (bool inverse : {false, true}) {
        check_shape<float>(shape, layout, inverse);
        check_shape<BFloat16>(shape, layout, inverse);
      }
    }
  }
}

TEST(Rope, InverseIsTheGradient) {
  std::vector<double> x = random_doubles(3 * 2 * 10, 21);
  const std::vector<double> dy = random_doubles(3 * 2 * 10, 22);
  const std::vector<int32_t> positions = {0, 17, 300};
  for (RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kHalfSplit}) {
    std::vector<double> dx = dy;
    rope_ref(dx.data(), 3, 2, positions.data(), frequencies(10), kFactor, layout, true);
    auto loss = [&] {
      std::vector<double> y = x;
      rope_ref(y.data(), 3, 2, positions.data(), frequencies(10), kFactor, layout, false);
      return dot(y, dy);
    };
    expect_gradient(x, dx, loss, 40, "dx");
  }
}

TEST(Rope, ScoresDependOnDistanceOnly) {
  // The property that the embedding exists for: (R_m q) . (R_n k) is a function of m - n.
  const std::vector<double> q = random_doubles(16, 31), k = random_doubles(16, 32);
  for (RopeLayout layout : {RopeLayout::kInterleaved, RopeLayout::kHalfSplit}) {
    std::vector<double> scores;
    for (int32_t shift : {0, 5, 1000}) {
      std::vector<double> turned_q = q, turned_k = k;
      const int32_t m = 40 + shift, n = 13 + shift;
      rope_ref(turned_q.data(), 1, 1, &m, frequencies(16), 1.0, layout, false);
      rope_ref(turned_k.data(), 1, 1, &n, frequencies(16), 1.0, layout, false);
      scores.push_back(dot(turned_q, turned_k));
    }
    // Angles up to 1040 radians in float64: 1040 * 2^-53 each, over 16 products of order one.
    EXPECT_NEAR(scores[0], scores[1], 1e-11);
    EXPECT_NEAR(scores[0], scores[2], 1e-11);
  }
}

TEST(Rope, KeepsNan) {
  Case<BFloat16> c({1, 1, 8, 0, 0}, RopeLayout::kInterleaved, false);
  assign(c.x[2], std::numeric_limits<double>::quiet_NaN());
  ThreadTeam team(1);
  c.run(team);
  const std::vector<double> out = c.packed();
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(std::isnan(out[i]), i == 2 || i == 3);
}

TEST(RopeDeathTest, RefusesAPositionPastTheTable) {
  Case<float> c({1, 1, 8, 0, 0}, RopeLayout::kInterleaved, false);
  c.positions[0] = 5000;
  ThreadTeam team(1);
  EXPECT_DEATH(c.run(team), "5000");
}

}  // namespace
}  // namespace mole::kernels::testing
