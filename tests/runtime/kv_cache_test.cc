#include "model/kv_cache.h"

#include <algorithm>
#include <span>

#include <gtest/gtest.h>

namespace mole::model {
namespace {

using kernels::KvFormat;

KvCacheShape shape_of(KvFormat format) {
  return {.num_layers = 3,
          .num_blocks = 5,
          .entry_elements = 576,
          .dtype = DType::kBFloat16,
          .format = format,
          .rope_elements = 64};
}

TEST(KvCacheTest, BytesFollowTheFormat) {
  EXPECT_EQ(shape_of(KvFormat::kModel).entry_bytes(), 1152);
  EXPECT_EQ(shape_of(KvFormat::kInt8).entry_bytes(), 644);
  EXPECT_EQ(shape_of(KvFormat::kFp8).entry_bytes(), 656);
  EXPECT_EQ(shape_of(KvFormat::kFp8).total_bytes(), 3 * 5 * 64 * 656);
}

TEST(KvCacheTest, BeginsZeroedAlignedAndWithoutOverlap) {
  for (const KvFormat format : {KvFormat::kModel, KvFormat::kInt8, KvFormat::kFp8}) {
    const KvCacheShape shape = shape_of(format);
    KvCache cache(shape);
    const auto bytes = static_cast<size_t>(shape.block_bytes());
    std::byte* expected = cache.layer(0);
    for (int32_t layer = 0; layer < shape.num_layers; ++layer) {
      EXPECT_EQ(cache.layer(layer), cache.block(layer, 0));
      for (int64_t block = 0; block < shape.num_blocks; ++block) {
        std::byte* data = cache.block(layer, block);
        EXPECT_EQ(data, expected);
        EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
        EXPECT_TRUE(std::all_of(data, data + bytes, [](std::byte b) { return b == std::byte{0}; }));
        std::fill(data, data + bytes, std::byte{0xff});
        expected += bytes;
      }
    }
  }
}

}  // namespace
}  // namespace mole::model
