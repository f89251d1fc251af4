#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/model_loader/support.h"

namespace mole::loader {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;
using test::view_of;
using ::testing::HasSubstr;

const std::vector<float> kFloats = {1.0f, -2.5f, 0x1p-126f, 3.0f, 4.0f, 5.0f};
const std::vector<uint16_t> kHalves = {0x3f80, 0x4000, 0xc000};
const std::vector<int64_t> kLongs = {INT64_MIN, INT64_MAX};
const std::vector<uint8_t> kBytes = {0, 127, 255};

std::map<std::string, TensorView> every_type() {
  return {
      {"a.float32", view_of(DType::kFloat32, {2, 3}, kFloats)},
      {"b.bfloat16", view_of(DType::kBFloat16, {3}, kHalves)},
      {"c.float16", view_of(DType::kFloat16, {1, 3}, kHalves)},
      {"d.fp8", view_of(DType::kFloat8E4M3, {3}, kBytes)},
      {"e.int64", view_of(DType::kInt64, {2}, kLongs)},
      {"f.uint8", view_of(DType::kUInt8, {3, 1}, kBytes)},
      {"g.empty", {DType::kFloat32, {0, 4}, {}}},
      {"h ünïcode \"quoted\"", view_of(DType::kUInt8, {3}, kBytes)},
  };
}

TEST(SafetensorsWriter, RoundTripKeepsEverything) {
  const TemporaryFolder folder;
  const auto tensors = every_type();
  const std::map<std::string, std::string> metadata = {{"format", "pt"}, {"note", "ä\n"}};
  const fs::path path = folder.path() / "x.safetensors";
  ASSERT_TRUE(write_safetensors(path, tensors, metadata).ok());
  const auto file = SafetensorsFile::open(path);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata(), metadata);
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (const auto& [name, view] : tensors) {
    const TensorView& read = file->tensors().at(name);
    EXPECT_EQ(read.dtype, view.dtype) << name;
    EXPECT_EQ(read.shape, view.shape) << name;
    EXPECT_TRUE(std::ranges::equal(read.bytes, view.bytes)) << name;
  }
}

TEST(SafetensorsWriter, DataIsAlignedAndTheBytesAreAFunctionOfTheInput) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_safetensors(folder.path() / "1", every_type()).ok());
  ASSERT_TRUE(write_safetensors(folder.path() / "2", every_type()).ok());
  const std::string bytes = test::read_whole(folder.path() / "1");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  EXPECT_EQ((8 + length) % 64, 0u);
  EXPECT_EQ(bytes, test::read_whole(folder.path() / "2"));
}

// fixtures/check_fixture.py reads the same file with the format's own Python library.
TEST(SafetensorsWriter, WritesTheFixtureThatPythonReads) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "x.safetensors";
  ASSERT_TRUE(write_safetensors(path, every_type(), {{"format", "pt"}}).ok());
  EXPECT_EQ(test::read_whole(path),
            test::read_whole("tests/model_loader/fixtures/written_by_us.safetensors"));
}

TEST(SafetensorsWriter, NoTensorsIsAFileToo) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_safetensors(folder.path() / "x", {}).ok());
  const auto file = SafetensorsFile::open(folder.path() / "x");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(file->tensors().empty());
}

TEST(SafetensorsWriter, RefusesWhatItCouldNotReadBack) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "x";
  const auto refused = [&](const std::string& name, const TensorView& view) {
    const Status status = write_safetensors(path, {{name, view}});
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << name << status;
    return std::string(status.message());
  };
  EXPECT_THAT(refused("short", view_of(DType::kFloat32, {7}, kFloats)), HasSubstr("\"short\""));
  refused("negative", view_of(DType::kFloat32, {-2, -3}, kFloats));
  refused("overflow", {DType::kFloat32, {INT64_MAX, INT64_MAX}, {}});
  refused("deep",
          {DType::kUInt8, std::vector<int64_t>(9, 1), std::as_bytes(std::span(kBytes).first(1))});
  refused("__metadata__", view_of(DType::kUInt8, {3}, kBytes));
  refused("bad \xff", view_of(DType::kUInt8, {3}, kBytes));
  EXPECT_FALSE(fs::exists(path));
}

TEST(SafetensorsWriter, AFailureLeavesTheOldFileAndNothingBeside) {
  const TemporaryFolder folder;
  const fs::path target = folder.path() / "taken";
  fs::create_directory(target);  // rename onto it must fail
  folder.write("taken/inside", "kept");
  const Status status = write_safetensors(target, every_type());
  EXPECT_TRUE(absl::IsInternal(status)) << status;
  EXPECT_EQ(test::read_whole(target / "inside"), "kept");
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), fs::directory_iterator()), 1);
  EXPECT_TRUE(absl::IsInternal(write_safetensors(folder.path() / "no/such/folder", every_type())));
}

TEST(SafetensorsWriter, ReplacesAnOldFileWhole) {
  const TemporaryFolder folder;
  const fs::path path = folder.write("x", "old contents");
  ASSERT_TRUE(write_safetensors(path, every_type()).ok());
  EXPECT_TRUE(SafetensorsFile::open(path).ok());
}

}  // namespace
}  // namespace mole::loader
