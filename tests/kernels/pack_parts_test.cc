#include "kernels/linear/pack_parts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/cases/tensor.h"
#include "kernels/linear/pack_shapes.h"

namespace mole::kernels {
namespace {

std::vector<std::byte> bytes_of(const PackedWeight& packed) {
  return {packed.data(), packed.data() + packed.bytes()};
}

TEST(PackParts, PacksWhatAStackOfTheMatricesWould) {
  CaseRandom random(11);
  ThreadTeam team(2);
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    for (const int64_t last : {1, 16, 21}) {
      const int64_t k = random.between(1, 90), rows = 32 + 48 + last;
      Tensor whole(dtype, rows, k);
      whole.fill_normal(random);
      std::vector<std::byte> stacked(static_cast<size_t>(rows * k * dtype_bytes(dtype)));
      const auto row_bytes = static_cast<size_t>(k * dtype_bytes(dtype));
      for (int64_t row = 0; row < rows; ++row) {
        std::memcpy(stacked.data() + static_cast<size_t>(row) * row_bytes,
                    static_cast<const std::byte*>(whole.data()) +
                        static_cast<size_t>(row * whole.stride() * dtype_bytes(dtype)),
                    row_bytes);
      }
      PackedWeight want, got;
      want.pack(stacked.data(), dtype, rows, k, k, false, team);
      const std::byte* second = stacked.data() + 32 * row_bytes;
      const std::byte* third = second + 48 * row_bytes;
      const std::vector<PlainMatrix> parts = {
          {stacked.data(), 32, k}, {second, 48, k}, {third, last, k}};
      ASSERT_TRUE(can_pack_parts(parts, dtype));
      pack_parts(parts, dtype, got, team);
      EXPECT_EQ(got.n(), rows);
      EXPECT_TRUE(bytes_of(got) == bytes_of(want)) << dtype_name(dtype) << " k " << k;
    }
  }
}

TEST(PackParts, RefusesRowsWithinAPanelAndUnalignedValues) {
  alignas(64) const float values[64] = {};
  const auto* odd = reinterpret_cast<const std::byte*>(values) + 1;
  const std::vector<PlainMatrix> cut = {{values, 15, 2}, {values, 16, 2}};
  const std::vector<PlainMatrix> unaligned = {{odd, 16, 2}};
  EXPECT_FALSE(can_pack_parts(cut, DType::kFloat32));
  EXPECT_FALSE(can_pack_parts(unaligned, DType::kBFloat16));
  EXPECT_FALSE(can_pack_parts({}, DType::kFloat32));
}

TEST(PackShapesOnly, GivesShapesWithoutReading) {
  ThreadTeam team(1);
  PackedWeight read, planned;
  const std::vector<float> values(17 * 40);
  read.pack(values.data(), DType::kFloat32, 17, 40, 40, false, team);
  {
    const PackShapesOnly shapes;
    planned.pack(nullptr, DType::kFloat32, 17, 40, 40, false, team);
  }
  EXPECT_FALSE(PackShapesOnly::active());
  EXPECT_EQ(planned.bytes(), read.bytes());
  EXPECT_EQ(planned.n(), 17);
}

}  // namespace
}  // namespace mole::kernels
