#include "base/file.h"

#include <gtest/gtest.h>

#include <cstring>

namespace mole {
namespace {

std::filesystem::path scratch(const std::string& name) {
  return std::filesystem::path(testing::TempDir()) / ("mole_file_test_" + name);
}

TEST(File, WritesWholeFilesAndReadsThemBack) {
  const auto path = scratch("whole");
  ASSERT_TRUE(write_file_atomic(path, "first").ok());
  ASSERT_TRUE(write_file_atomic(path, "second, longer").ok());
  EXPECT_EQ(*read_file(path, 100), "second, longer");
  for (const auto& entry : std::filesystem::directory_iterator(path.parent_path())) {
    EXPECT_EQ(entry.path().string().find(path.string() + ".tmp"), std::string::npos);
  }
}

TEST(File, RefusesWhatIsTooLargeAtTheBound) {
  const auto path = scratch("bound");
  ASSERT_TRUE(write_file_atomic(path, "12345").ok());
  EXPECT_TRUE(read_file(path, 5).ok());
  const auto refused = read_file(path, 4);
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(refused.status().message().find("at most 4"), std::string::npos);
}

TEST(File, NamesWhatIsMissing) {
  EXPECT_EQ(read_file("/nowhere/at/all", 5).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(MappedFile::open("/nowhere/at/all").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(read_file(testing::TempDir(), 5).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(write_file_atomic("/nowhere/at/all", "x").ok());
}

TEST(File, MapsBytes) {
  const auto path = scratch("map");
  ASSERT_TRUE(write_file_atomic(path, "mapped").ok());
  auto file = MappedFile::open(path);
  ASSERT_TRUE(file.ok());
  MappedFile moved = std::move(*file);
  ASSERT_EQ(moved.bytes().size(), 6u);
  EXPECT_EQ(std::memcmp(moved.bytes().data(), "mapped", 6), 0);
  ASSERT_TRUE(write_file_atomic(path, "").ok());
  EXPECT_TRUE(MappedFile::open(path)->bytes().empty());
}

TEST(File, Sha256OfKnownText) {
  // FIPS 180-4's example "abc".
  const std::string abc = "abc";
  EXPECT_EQ(sha256_hex(std::as_bytes(std::span(abc))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace mole
