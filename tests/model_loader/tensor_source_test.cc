#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model_loader/checkpoint.h"
#include "tests/model_loader/support.h"

namespace mole::loader {
namespace {

using test::TemporaryFolder;
using test::view_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<float> kFloats = {1, 2, 3, 4};
const std::vector<int64_t> kLongs = {1, 2};
const std::vector<uint8_t> kFp8 = {0x38, 0x40, 0xb8};  // 1, 2, -1
const std::vector<float> kScale = {0.5f};

struct Source : ::testing::Test {
  TemporaryFolder folder;
  std::shared_ptr<const Checkpoint> checkpoint;

  void hold(const std::map<std::string, TensorView>& tensors) {
    folder.write("config.json", "{}");
    ASSERT_TRUE(write_safetensors(folder.path() / "model.safetensors", tensors).ok());
    auto opened = Checkpoint::open(folder.path());
    ASSERT_TRUE(opened.ok()) << opened.status();
    checkpoint = *opened;
  }
  static std::vector<float> read(TensorSource* source, const std::string& name,
                                 const std::vector<int64_t>& shape, size_t count) {
    std::vector<float> out(count, -7.0f);
    source->read(name, shape, DType::kFloat32, out.data());
    return out;
  }
};

TEST_F(Source, AllReadIsOk) {
  hold({{"a", view_of(DType::kFloat32, {2, 2}, kFloats)},
        {"b", view_of(DType::kFloat32, {4}, kFloats)}});
  TensorSource source(checkpoint);
  EXPECT_TRUE(source.has("a"));
  EXPECT_FALSE(source.has("c"));
  EXPECT_EQ(read(&source, "a", {2, 2}, 4), kFloats);
  EXPECT_EQ(read(&source, "b", {4}, 4), kFloats);
  EXPECT_EQ(read(&source, "a", {2, 2}, 4), kFloats);  // tied weights are read twice, counted once
  const LoadReport report = source.finish();
  EXPECT_TRUE(report.status().ok()) << report.status();
  EXPECT_EQ(report.tensors_read, 2);
  EXPECT_EQ(report.bytes_read, 32);
}

TEST_F(Source, EveryKindOfMisfitIsReportedAndTheOutputIsZero) {
  hold({{"a", view_of(DType::kFloat32, {2, 2}, kFloats)},
        {"extra", view_of(DType::kFloat32, {4}, kFloats)},
        {"ids", view_of(DType::kInt64, {2}, kLongs)}});
  TensorSource source(checkpoint);
  EXPECT_THAT(read(&source, "a", {4}, 4), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(read(&source, "none", {3}, 3), ElementsAre(0, 0, 0));
  EXPECT_THAT(read(&source, "ids", {2}, 2), ElementsAre(0, 0));
  const LoadReport report = source.finish();
  EXPECT_THAT(report.missing, ElementsAre("\"none\""));
  EXPECT_THAT(report.unused, ElementsAre("\"extra\""));
  EXPECT_THAT(report.misshapen, ElementsAre("\"a\": expected [4], found float32 [2, 2]",
                                            "\"ids\": expected [2], found int64 [2]"));
  const std::string message(report.status().message());
  EXPECT_TRUE(absl::IsInvalidArgument(report.status()));
  EXPECT_THAT(message, HasSubstr("1 missing: \"none\""));
  EXPECT_THAT(message, HasSubstr("1 unused: \"extra\""));
  EXPECT_THAT(message, HasSubstr("2 misshapen"));
}

TEST_F(Source, IgnoredPrefixesAreNotUnused) {
  hold({{"model.layers.2.enorm", view_of(DType::kFloat32, {4}, kFloats)},
        {"model.layers.20.x", view_of(DType::kFloat32, {4}, kFloats)}});
  TensorSource source(checkpoint);
  source.ignore_prefix("model.layers.2.");
  EXPECT_THAT(source.finish().unused, ElementsAre("\"model.layers.20.x\""));
}

TEST_F(Source, Fp8IsExpandedWithItsScales) {
  hold({{"w", view_of(DType::kFloat8E4M3, {1, 3}, kFp8)},
        {"w_scale_inv", view_of(DType::kFloat32, {1, 1}, kScale)}});
  TensorSource source(checkpoint);
  EXPECT_THAT(read(&source, "w", {1, 3}, 3), ElementsAre(0.5f, 1.0f, -0.5f));
  const LoadReport report = source.finish();
  EXPECT_TRUE(report.status().ok()) << report.status();
  EXPECT_EQ(report.tensors_read, 2);
  EXPECT_EQ(report.bytes_read, 7);
}

TEST_F(Source, Fp8WithoutOrWithWrongScalesIsReported) {
  hold({{"lone", view_of(DType::kFloat8E4M3, {1, 3}, kFp8)},
        {"row", view_of(DType::kFloat8E4M3, {1, 3}, kFp8)},
        {"row_scale_inv", view_of(DType::kFloat32, {1}, kScale)},
        {"flat", view_of(DType::kFloat8E4M3, {3}, kFp8)},
        {"flat_scale_inv", view_of(DType::kFloat32, {1}, kScale)}});
  TensorSource source(checkpoint);
  EXPECT_THAT(read(&source, "lone", {1, 3}, 3), ElementsAre(0, 0, 0));
  EXPECT_THAT(read(&source, "row", {1, 3}, 3), ElementsAre(0, 0, 0));
  EXPECT_THAT(read(&source, "flat", {3}, 3), ElementsAre(0, 0, 0));
  const LoadReport report = source.finish();
  EXPECT_THAT(report.missing, ElementsAre("\"lone_scale_inv\""));
  EXPECT_THAT(report.misshapen,
              ElementsAre("\"row_scale_inv\": expected float32 [1, 1], found float32 [1]",
                          "\"flat_scale_inv\": only a matrix can have scales"));
  EXPECT_TRUE(report.unused.empty());
}

TEST_F(Source, BFloat16OutputIsRounded) {
  const std::vector<float> values = {1.00390625f, -3.0f};
  hold({{"a", view_of(DType::kFloat32, {2}, values)}});
  TensorSource source(checkpoint);
  std::vector<BFloat16> out(2);
  source.read("a", {2}, DType::kBFloat16, out.data());
  EXPECT_EQ(out[0].bits, 0x3f80);
  EXPECT_EQ(out[1].bits, 0xc040);
  source.read("none", {2}, DType::kBFloat16, out.data());
  EXPECT_EQ(out[0].bits, 0);
}

TEST_F(Source, ProgressIsToldOnceASecond) {
  hold({{"a", view_of(DType::kFloat32, {4}, kFloats)},
        {"b", view_of(DType::kFloat32, {4}, kFloats)},
        {"c", view_of(DType::kFloat32, {4}, kFloats)}});
  const auto clock = std::make_shared<ManualClock>();
  std::vector<std::pair<int64_t, int64_t>> told;
  TensorSource source(
      checkpoint, [&](int64_t done, int64_t total) { told.emplace_back(done, total); }, clock);
  read(&source, "a", {4}, 4);
  clock->advance_us(1'000'000);
  read(&source, "b", {4}, 4);
  clock->advance_us(999'999);
  read(&source, "c", {4}, 4);
  EXPECT_THAT(told, ElementsAre(std::pair<int64_t, int64_t>(32, 48)));
}

TEST_F(Source, LongListsAreCutInTheMessageOnly) {
  hold({{"a", view_of(DType::kFloat32, {4}, kFloats)}});
  TensorSource source(checkpoint);
  for (int i = 0; i < 30; ++i) read(&source, "m" + std::to_string(i), {1}, 1);
  const LoadReport report = source.finish();
  EXPECT_EQ(report.missing.size(), 30u);
  const std::string message(report.status().message());
  EXPECT_THAT(message, HasSubstr("30 missing"));
  EXPECT_THAT(message, HasSubstr("\"m19\", …"));
}

}  // namespace
}  // namespace mole::loader
