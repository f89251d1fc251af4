// What the awkward cases of linear are too small for: many turns of staged rows, long k; and
// denormals.
#include "kernels/linear/linear.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/cases/tensor.h"
#include "kernels/cases/tolerance.h"
#include "kernels/cpu/isa.h"

namespace mole::kernels {
namespace {

constexpr Isa kAll[] = {Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

class LinearTest : public testing::Test {
 protected:
  void TearDown() override { set_isa_for_test(original_); }

  static std::vector<std::byte> product(Tensor& x, Tensor& weight, DType y_dtype, Isa set,
                                        int32_t threads) {
    set_isa_for_test(set);
    ThreadTeam team(threads);
    PackedWeight packed;
    packed.pack(weight.data(), weight.dtype(), weight.rows(), weight.columns(), weight.stride(),
                false, team);
    Tensor y(y_dtype, x.rows(), weight.rows());
    LinearArgs args{.x = x.data(), .rows = x.rows(), .x_stride = x.stride()};
    args.weight = &packed;
    args.y = y.data();
    args.y_dtype = y_dtype;
    args.y_stride = y.stride();
    linear(args, team);
    EXPECT_TRUE(y.intact());
    return y.bytes();
  }

  static void expect_equal_ways(DType dtype, int64_t rows, int64_t n, int64_t k) {
    CaseRandom random(7);
    Tensor x(dtype, rows, k), weight(dtype, n, k);
    x.fill_normal(random);
    weight.fill_normal(random);
    const std::vector<std::byte> want = product(x, weight, DType::kFloat32, Isa::kAvx2, 1);
    for (const Isa set : kAll) {
      if (!isa_available(set)) continue;
      for (const int32_t threads : {1, 2, 3}) {
        EXPECT_TRUE(product(x, weight, DType::kFloat32, set, threads) == want)
            << isa_name(set) << " with " << threads << " threads";
      }
    }
    // A few elements against float64.
    Tensor y(DType::kFloat32, rows, n);
    y.restore(want);
    for (int i = 0; i < 50; ++i) {
      const int64_t row = random.between(0, rows - 1), column = random.between(0, n - 1);
      double sum = 0, magnitude = 0;
      for (int64_t j = 0; j < k; ++j) {
        sum += x.at(row, j) * weight.at(column, j);
        magnitude += std::abs(x.at(row, j) * weight.at(column, j));
      }
      EXPECT_NEAR(y.at(row, column), sum, chain_tolerance(k, magnitude));
    }
  }

 private:
  const Isa original_ = isa();
};

TEST_F(LinearTest, ManyTurnsOfRowsAgree) {
  expect_equal_ways(DType::kBFloat16, 1100, 50, 70);
  expect_equal_ways(DType::kFloat32, 300, 100, 70);
}

TEST_F(LinearTest, LongRowsAgree) {
  expect_equal_ways(DType::kBFloat16, 130, 40, 9000);
  expect_equal_ways(DType::kFloat32, 20, 90, 5000);
}

// One to two blocks of rows, every count of panels that are read side by side and their rest.
TEST_F(LinearTest, EveryNumberOfFewRowsAgrees) {
  for (int64_t rows = 1; rows <= 34; ++rows) {
    expect_equal_ways(DType::kBFloat16, rows, 16 * (rows % 9) + 7, 100);
  }
  for (const int64_t rows : {1, 2, 3}) expect_equal_ways(DType::kFloat32, rows, 16 * 15, 600);
}

// K in runs whose sums wait in memory, more panels than one group of them, an odd last panel.
TEST_F(LinearTest, LongRowsOfManyPanelsAgree) {
  expect_equal_ways(DType::kBFloat16, 70, 1100, 3200);
  expect_equal_ways(DType::kBFloat16, 300, 90, 4000);
}

TEST_F(LinearTest, NothingToAddGivesZeros) {
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    Tensor x(dtype, 3, 0), weight(dtype, 5, 0), zeros(DType::kFloat32, 3, 5);
    for (int64_t i = 0; i < 15; ++i) zeros.set(i / 5, i % 5, 0);
    for (const Isa set : kAll) {
      if (!isa_available(set)) continue;
      EXPECT_TRUE(product(x, weight, DType::kFloat32, set, 2) == zeros.bytes()) << isa_name(set);
    }
  }
}

// The matrix unit takes a denormal for zero, and so must the others.
TEST_F(LinearTest, DenormalsAreZeroEverywhere) {
  Tensor x(DType::kBFloat16, 2, 33), weight(DType::kBFloat16, 16, 33);
  CaseRandom random(3);
  for (Tensor* tensor : {&x, &weight}) {
    for (int64_t r = 0; r < tensor->rows(); ++r) {
      for (int64_t c = 0; c < 33; ++c) {
        // Denormal inputs, denormal products, denormal sums.
        tensor->set(r, c,
                    std::ldexp(random.normal(), static_cast<int>(random.pick({-130, -64, 0}))));
      }
    }
  }
  const std::vector<std::byte> want = product(x, weight, DType::kFloat32, Isa::kAvx2, 1);
  for (const Isa set : kAll) {
    if (!isa_available(set)) continue;
    EXPECT_TRUE(product(x, weight, DType::kFloat32, set, 2) == want) << isa_name(set);
  }
}

TEST_F(LinearTest, APackedWeightCanBePackedAgain) {
  ThreadTeam team(1);
  CaseRandom random(5);
  Tensor first(DType::kFloat32, 40, 40), second(DType::kFloat32, 17, 9);
  first.fill_normal(random);
  second.fill_normal(random);
  PackedWeight packed, fresh;
  packed.pack(first.data(), DType::kFloat32, 40, 40, 40, false, team);
  const std::byte* memory = packed.data();
  packed.pack(second.data(), DType::kFloat32, 17, 9, 9, false, team);
  fresh.pack(second.data(), DType::kFloat32, 17, 9, 9, false, team);
  EXPECT_EQ(packed.data(), memory);
  ASSERT_EQ(packed.bytes(), fresh.bytes());
  EXPECT_TRUE(std::equal(packed.data(), packed.data() + packed.bytes(), fresh.data()));
}

}  // namespace
}  // namespace mole::kernels
