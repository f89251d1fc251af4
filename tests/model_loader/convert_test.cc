#include "model_loader/convert.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "tests/model_loader/support.h"

namespace mole::loader {
namespace {

uint32_t bits_of(float value) { return std::bit_cast<uint32_t>(value); }

// Checked against the definition: (-1)^s * 2^(e-7) * (1 + m/8), or 2^-6 * m/8 where e is 0.
TEST(Convert, Float8E4M3IsExactForAll256) {
  for (int i = 0; i < 256; ++i) {
    const float value = float8_e4m3_to_float(static_cast<uint8_t>(i));
    const int e = (i >> 3) & 15;
    const double m = (i & 7) / 8.0;
    if ((i & 127) == 127) {
      EXPECT_TRUE(std::isnan(value)) << i;
      continue;
    }
    const double magnitude = e == 0 ? std::pow(2.0, -6) * m : std::pow(2.0, e - 7) * (1 + m);
    EXPECT_EQ(static_cast<double>(value), i < 128 ? magnitude : -magnitude) << i;
    EXPECT_EQ(std::signbit(value), i >= 128) << i;
  }
  EXPECT_EQ(float8_e4m3_to_float(0x7e), 448.0f);
  EXPECT_EQ(float8_e4m3_to_float(0x01), 0x1p-9f);
}

// The compiler's own half type is the reference.
TEST(Convert, Float16IsExactForAll65536) {
  for (uint32_t i = 0; i < 65536; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float value = float16_to_float(bits);
    const auto wanted = static_cast<float>(std::bit_cast<_Float16>(bits));
    if (std::isnan(wanted)) {
      EXPECT_TRUE(std::isnan(value)) << i;
    } else {
      EXPECT_EQ(bits_of(value), bits_of(wanted)) << i;
    }
  }
}

TEST(Convert, BFloat16RoundsOnceToNearestEven) {
  const std::vector<float> values = {1.0f, 1.00390625f, 1.01171875f, -0.0f, 3.4e38f, INFINITY};
  const std::vector<uint16_t> wanted = {0x3f80, 0x3f80, 0x3f82, 0x8000, 0x7f80, 0x7f80};
  std::vector<BFloat16> out(values.size());
  convert(DType::kFloat32, std::as_bytes(std::span(values)).data(), 6, DType::kBFloat16,
          out.data());
  for (size_t i = 0; i < out.size(); ++i) EXPECT_EQ(out[i].bits, wanted[i]) << i;
}

TEST(Convert, EveryPairOfTypesAtOddAddresses) {
  const std::vector<float> values = {0.0f, 1.0f, -2.0f, 0.5f, 448.0f};  // exact in every type
  const auto encoded = [&](DType dtype) {
    const std::vector<uint16_t> bf16 = {0, 0x3f80, 0xc000, 0x3f00, 0x43e0};
    const std::vector<uint16_t> f16 = {0, 0x3c00, 0xc000, 0x3800, 0x5f00};
    const std::vector<uint8_t> fp8 = {0, 0x38, 0xc0, 0x30, 0x7e};
    std::string bytes(1, '\0');  // the first element is at an odd address
    const auto add = [&](const auto& list) {
      bytes.append(reinterpret_cast<const char*>(list.data()),
                   list.size() * static_cast<size_t>(dtype_bytes(dtype)));
    };
    if (dtype == DType::kFloat32) add(values);
    if (dtype == DType::kBFloat16) add(bf16);
    if (dtype == DType::kFloat16) add(f16);
    if (dtype == DType::kFloat8E4M3) add(fp8);
    return bytes;
  };
  for (const DType from :
       {DType::kFloat32, DType::kBFloat16, DType::kFloat16, DType::kFloat8E4M3}) {
    const std::string bytes = encoded(from);
    const auto* data = reinterpret_cast<const std::byte*>(bytes.data()) + 1;
    std::vector<float> wide(5);
    convert(from, data, 5, DType::kFloat32, wide.data());
    EXPECT_EQ(wide, values) << dtype_name(from);
    std::vector<BFloat16> narrow(5);
    convert(from, data, 5, DType::kBFloat16, narrow.data());
    for (size_t i = 0; i < 5; ++i) EXPECT_EQ(to_float(narrow[i]), values[i]) << dtype_name(from);
  }
}

TEST(Convert, Fp8BlocksMatchTheDefinitionForAnyShape) {
  std::mt19937_64 random(test::test_seed());
  SCOPED_TRACE("MOLE_TEST_SEED=" + std::to_string(test::test_seed()));
  for (const int64_t rows : {1, 127, 128, 129, 300}) {
    for (const int64_t columns : {1, 128, 257}) {
      const int64_t across = (columns + 127) / 128;
      std::vector<uint8_t> values(static_cast<size_t>(rows * columns));
      std::vector<float> scales(static_cast<size_t>((rows + 127) / 128 * across));
      for (auto& value : values) value = static_cast<uint8_t>(random() % 127);  // no NaN
      for (auto& scale : scales) scale = 0.001f * static_cast<float>(random() % 1000);
      const TensorView matrix = test::view_of(DType::kFloat8E4M3, {rows, columns}, values);
      const TensorView scale_view =
          test::view_of(DType::kFloat32, {(rows + 127) / 128, across}, scales);
      std::vector<float> wide(values.size());
      std::vector<BFloat16> narrow(values.size());
      convert_fp8_blocks(matrix, scale_view, DType::kFloat32, wide.data());
      convert_fp8_blocks(matrix, scale_view, DType::kBFloat16, narrow.data());
      for (int64_t i = 0; i < rows * columns; ++i) {
        const auto at = static_cast<size_t>(i);
        const auto block = static_cast<size_t>(i / columns / 128 * across + i % columns / 128);
        const float wanted = float8_e4m3_to_float(values[at]) * scales[block];
        ASSERT_EQ(bits_of(wide[at]), bits_of(wanted)) << rows << "x" << columns << " at " << i;
        ASSERT_EQ(narrow[at].bits, to_bfloat16(wanted).bits);
      }
    }
  }
}

TEST(ConvertDeathTest, IntegersAreOurBug) {
  float out = 0;
  const std::vector<int64_t> values = {1};
  EXPECT_DEATH(
      convert(DType::kInt64, std::as_bytes(std::span(values)).data(), 1, DType::kFloat32, &out),
      "is_floating");
}

}  // namespace
}  // namespace mole::loader
