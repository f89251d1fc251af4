// Quantised weights beyond the cases of linear_quantized: every code's value through every
// decoder, how far quantising may go wrong, what is not finite, and moe as the sum of its steps.
#include "kernels/linear/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cases/tensor.h"
#include "kernels/cpu/isa.h"
#include "kernels/linear/quantized_impl.h"
#include "kernels/moe/moe.h"
#include "kernels/silu_mul/silu_mul.h"

namespace mole::kernels {
namespace {

constexpr Isa kAll[] = {Isa::kAvx2, Isa::kAvx512, Isa::kAmx};

class QuantizeTest : public testing::Test {
 protected:
  void TearDown() override { set_isa_for_test(original_); }

 private:
  const Isa original_ = isa();
};

/// A quantised matrix and what it was made of.
struct Quantized {
  Quantized(WeightFormat format, const Tensor& values) : source(values) {
    ThreadTeam team(1);
    const int64_t n = values.rows(), k = values.columns();
    codes.resize(static_cast<std::size_t>(n * code_row_bytes(format, k)));
    scales.resize(static_cast<std::size_t>(scale_rows(format, n) * scale_columns(format, k)));
    finite = quantize(format, source.as<BFloat16>(), n, k, codes.data(), scales.data(), team);
    matrix = {format, n, k, codes.data(), reinterpret_cast<const std::byte*>(scales.data())};
  }
  Quantized(const Quantized&) = delete;
  Quantized& operator=(const Quantized&) = delete;

  float scale(int64_t n, int64_t k) const {
    const int64_t row = matrix.format == WeightFormat::kFp8 ? n / kGroupK : n;
    const int64_t column = has_groups(matrix.format) ? k / kGroupK : 0;
    return scales[static_cast<std::size_t>(row * scale_columns(matrix.format, matrix.k) + column)];
  }

  Tensor source;
  std::vector<std::byte> codes;
  std::vector<float> scales;
  bool finite = false;
  QuantizedMatrix matrix;
};

/// x [rows, K] times the weight, float32.
std::vector<float> product(Tensor& x, const PackedWeight& weight, int32_t threads = 1) {
  ThreadTeam team(threads);
  std::vector<float> y(static_cast<std::size_t>(x.rows() * weight.n()));
  linear({.x = x.data(),
          .rows = x.rows(),
          .x_stride = x.stride(),
          .weight = &weight,
          .y = y.data(),
          .y_dtype = DType::kFloat32,
          .y_stride = weight.n()},
         team);
  return y;
}

/// Row i of x is 1 at column i: the product shows the weight's values one by one.
Tensor identity(int64_t size) {
  Tensor x(DType::kBFloat16, size, size);
  for (int64_t i = 0; i < size * size; ++i) x.set(i / size, i % size, i / size == i % size);
  return x;
}

TEST_F(QuantizeTest, EveryCodeHasItsValueOnEveryInstructionSet) {
  constexpr int64_t kN = 16, kK = 128;
  const std::vector<float> scales(kN, 0.5f);
  ThreadTeam team(1);
  Tensor x = identity(kK);
  for (const WeightFormat format :
       {WeightFormat::kInt8A16, WeightFormat::kInt4, WeightFormat::kFp8}) {
    std::vector<std::byte> codes(static_cast<std::size_t>(kN * code_row_bytes(format, kK)));
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = std::byte(i);  // all 256 patterns, several times
      const bool none = format == WeightFormat::kFp8 ? (i & 0x7f) == 0x7f : (i & 0xff) == 0x80;
      if (none && format != WeightFormat::kInt4) codes[i] = std::byte{1};
    }
    const QuantizedMatrix matrix{format, kN, kK, codes.data(),
                                 reinterpret_cast<const std::byte*>(scales.data())};
    ASSERT_EQ(quantized_fault(matrix, team), "");
    std::vector<double> want(static_cast<std::size_t>(kN * kK));
    linear_quantized_ref(x.as<BFloat16>(), matrix, kK, want.data(), nullptr);
    for (const Isa set : kAll) {
      if (!isa_available(set)) continue;
      set_isa_for_test(set);
      PackedWeight packed;
      pack_quantized({&matrix, 1}, packed, team);
      const std::vector<float> y = product(x, packed);
      for (std::size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(static_cast<double>(y[i]), want[i]) << isa_name(set) << ", element " << i;
      }
    }
  }
}

TEST_F(QuantizeTest, AValueIsAtMostHalfAStepFromItsCode) {
  constexpr int64_t kN = 140, kK = 300;
  CaseRandom random(11);
  Tensor values(DType::kBFloat16, kN, kK);
  for (int64_t i = 0; i < kN * kK; ++i) {  // rows of different size, some tiny, some zero
    const double size = std::ldexp(1.0, static_cast<int>(i / kK % 5 * -30));
    values.set(i / kK, i % kK, i / kK == 7 ? 0.0 : random.normal() * size);
  }
  Tensor x = identity(kK);
  for (const WeightFormat format : kQuantizedFormats) {
    const Quantized weight(format, values);
    ASSERT_TRUE(weight.finite);
    std::vector<double> got(static_cast<std::size_t>(kN * kK));  // [K, N]
    linear_quantized_ref(x.as<BFloat16>(), weight.matrix, kK, got.data(), nullptr);
    for (int64_t n = 0; n < kN; ++n) {
      for (int64_t k = 0; k < kK; ++k) {
        const double value = values.at(n, k), scale = std::abs(weight.scale(n, k));
        double step = scale / 2;
        if (format == WeightFormat::kInt4) step = scale;  // the side without -8 ends at 7
        if (format == WeightFormat::kFp8) step = std::max(std::abs(value) / 16, scale * 0x1p-10);
        // Roundings of scale, inverse and product; what is below 2^-100 counts as zero.
        const double bound = step * (1 + 0x1p-20) + std::abs(value) * 0x1p-20 + 0x1p-100;
        ASSERT_NEAR(got[static_cast<std::size_t>(k * kN + n)], value, bound)
            << format_name(format) << " [" << n << ", " << k << "]";
      }
    }
  }
}

TEST_F(QuantizeTest, InstructionSetsMakeTheSameCodes) {
  CaseRandom random(12);
  Tensor values(DType::kBFloat16, 33, 270);
  values.fill_normal(random);
  for (const WeightFormat format : kQuantizedFormats) {
    set_isa_for_test(Isa::kAvx2);
    const Quantized first(format, values);
    for (const Isa set : kAll) {
      if (!isa_available(set)) continue;
      set_isa_for_test(set);
      const Quantized again(format, values);
      EXPECT_TRUE(again.codes == first.codes && again.scales == first.scales)
          << format_name(format) << " " << isa_name(set);
    }
  }
}

TEST_F(QuantizeTest, WhatIsNotFiniteIsSeen) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
        std::numeric_limits<float>::quiet_NaN()}) {
    for (const WeightFormat format : kQuantizedFormats) {
      Tensor values(DType::kBFloat16, 3, 140);
      for (int64_t i = 0; i < 3 * 140; ++i) values.set(i / 140, i % 140, 1.0);
      EXPECT_TRUE(Quantized(format, values).finite);
      values.set(1, 133, static_cast<double>(bad));
      EXPECT_FALSE(Quantized(format, values).finite) << format_name(format) << " " << bad;
    }
  }
}

/// A broken activation must not turn into numbers that look sound.
TEST_F(QuantizeTest, ActivationsThatAreNoNumbersStayNone) {
  ThreadTeam team(1);
  CaseRandom random(13);
  Tensor values(DType::kBFloat16, 20, 200);
  values.fill_normal(random);
  for (const double bad :
       {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    Tensor x(DType::kBFloat16, 6, 200);
    x.fill_normal(random);
    x.set(2, 150, bad);
    for (const WeightFormat format : kQuantizedFormats) {
      const Quantized weight(format, values);
      PackedWeight packed;
      pack_quantized({&weight.matrix, 1}, packed, team);
      for (const Isa set : kAll) {
        if (!isa_available(set)) continue;
        set_isa_for_test(set);
        const std::vector<float> y = product(x, packed);
        for (std::size_t i = 0; i < y.size(); ++i) {
          ASSERT_EQ(std::isfinite(y[i]), i / 20 != 2)
              << format_name(format) << " " << isa_name(set) << " row " << i / 20;
        }
      }
    }
  }
}

/// Long rows: integer sums past 2^24, many groups, more rows than one turn, sums that wait while K
/// is cut into runs.
TEST_F(QuantizeTest, LongRowsAndManyRowsAgree) {
  ThreadTeam team(1);
  CaseRandom random(14);
  for (const auto& [rows, n, k] : {std::tuple{3, 20, 9000}, {700, 40, 260}, {70, 550, 6300}}) {
    Tensor values(DType::kBFloat16, n, k), x(DType::kBFloat16, rows, k);
    values.fill_normal(random);
    x.fill_normal(random);
    for (const WeightFormat format : kQuantizedFormats) {
      const Quantized weight(format, values);
      std::vector<float> first;
      for (const Isa set : kAll) {
        if (!isa_available(set)) continue;
        set_isa_for_test(set);
        PackedWeight packed;
        pack_quantized({&weight.matrix, 1}, packed, team);
        for (const int32_t threads : {1, 3}) {
          const std::vector<float> y = product(x, packed, threads);
          if (first.empty()) first = y;
          EXPECT_TRUE(y == first) << format_name(format) << " " << isa_name(set);
        }
      }
    }
  }
}

/// moe's steps one by one, every row alone.
std::vector<float> moe_by_hand(Tensor& x, const std::vector<int32_t>& ids,
                               const std::vector<float>& weights,
                               const std::vector<ExpertWeights>& experts, int64_t width) {
  const int64_t hidden = x.columns();
  const auto top_k = static_cast<int64_t>(ids.size()) / x.rows();
  ThreadTeam team(1);
  std::vector<float> y(static_cast<std::size_t>(x.rows() * hidden));
  for (int64_t t = 0; t < x.rows(); ++t) {
    Tensor row(DType::kBFloat16, 1, hidden), middle(DType::kBFloat16, 1, width);
    for (int64_t d = 0; d < hidden; ++d) row.set(0, d, x.at(t, d));
    std::vector<float> sum(static_cast<std::size_t>(hidden));
    for (int64_t j = 0; j < top_k; ++j) {
      const auto slot = static_cast<std::size_t>(t * top_k + j);
      const ExpertWeights& expert = experts[static_cast<std::size_t>(ids[slot])];
      const std::vector<float> gate_up = product(row, expert.gate_up);
      silu_mul({.gate_up = gate_up.data(),
                .rows = 1,
                .width = width,
                .y = middle.data(),
                .out_dtype = DType::kBFloat16},
               team);
      const std::vector<float> down = product(middle, expert.down);
      for (std::size_t d = 0; d < sum.size(); ++d) {
        sum[d] = std::fma(weights[slot], down[d], sum[d]);
      }
    }
    for (std::size_t d = 0; d < sum.size(); ++d) {
      y[static_cast<std::size_t>(t * hidden) + d] = to_float(to_bfloat16(sum[d]));
    }
  }
  return y;
}

void expect_sum_of_steps(int64_t width, const std::vector<int64_t>& tokens_of) {
  constexpr int64_t kHidden = 130, kExperts = 3, kTopK = 2;
  ThreadTeam one(1);
  CaseRandom random(15);
  for (const WeightFormat format : kQuantizedFormats) {
    std::vector<ExpertWeights> experts(kExperts);
    for (ExpertWeights& expert : experts) {
      Tensor half(DType::kBFloat16, width, kHidden), down(DType::kBFloat16, kHidden, width);
      half.fill_normal(random, 0.1);
      const Quantized gate(format, half);
      half.fill_normal(random, 0.1);
      const Quantized up(format, half);
      down.fill_normal(random, 0.2);
      const Quantized back(format, down);
      const QuantizedMatrix parts[] = {gate.matrix, up.matrix};
      pack_quantized(parts, expert.gate_up, one);
      pack_quantized({&back.matrix, 1}, expert.down, one);
    }
    for (const int64_t tokens : tokens_of) {
      Tensor x(DType::kBFloat16, tokens, kHidden), y(DType::kBFloat16, tokens, kHidden);
      x.fill_normal(random);
      std::vector<int32_t> ids;
      std::vector<float> weights;
      for (int64_t t = 0; t < tokens; ++t) {
        const auto first = static_cast<int32_t>(random.between(0, kExperts - 1));
        ids.insert(ids.end(), {first, static_cast<int32_t>((first + 1) % kExperts)});
        for (int j = 0; j < kTopK; ++j) weights.push_back(static_cast<float>(random.uniform()));
      }
      const std::vector<float> want = moe_by_hand(x, ids, weights, experts, width);
      for (const Isa set : kAll) {
        if (!isa_available(set)) continue;
        set_isa_for_test(set);
        for (const int32_t threads : {1, 2}) {
          ThreadTeam team(threads);
          y.poison();
          MoeArgs args{.x = x.data(), .dtype = DType::kBFloat16, .tokens = tokens};
          args.hidden = kHidden;
          args.expert_width = width;
          args.top_k = kTopK;
          args.expert_ids = ids.data();
          args.weights = weights.data();
          args.experts = experts;
          args.y = y.data();
          moe(args, team);
          const std::vector<double> got = y.doubles();
          for (std::size_t i = 0; i < want.size(); ++i) {
            ASSERT_EQ(got[i], static_cast<double>(want[i]))
                << format_name(format) << " " << isa_name(set) << " tokens " << tokens;
          }
        }
      }
    }
  }
}

TEST_F(QuantizeTest, MoeIsTheSumOfItsSteps) {
  expect_sum_of_steps(40, {1, 5, 300});
  expect_sum_of_steps(64, {90});  // gate and up in pairs of panels
}

}  // namespace
}  // namespace mole::kernels
