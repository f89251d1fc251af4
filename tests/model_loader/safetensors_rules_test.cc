// One case for each rule of the format: the error is kDataLoss, names the file and says the rule.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model_loader/support.h"

namespace mole::loader {
namespace {

using test::file_bytes;
using test::TemporaryFolder;
using ::testing::HasSubstr;

struct BadFile {
  const char* name;
  std::string bytes;
  const char* says;
};

std::string entry(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets) {
  return R"({"a":)" + entry(dtype, shape, offsets) + "}";
}

std::string two(const std::string& first_offsets, const std::string& second_offsets) {
  return R"({"a":)" + entry("F32", "[1]", first_offsets) + R"(,"b":)" +
         entry("F32", "[1]", second_offsets) + "}";
}

const std::string kFour(4, 'x');
const std::string kEight(8, 'x');

std::vector<BadFile> broken_containers() {
  return {
      {"empty", "", "the file has 0 bytes"},
      {"seven", std::string(7, '\0'), "the file has 7 bytes"},
      {"zero_header", file_bytes("", ""), "does not start with '{'"},
      {"length_beyond_file", file_bytes(100, "{}", ""), "truncated"},
      {"length_max", file_bytes(UINT64_MAX, "{}", ""), "18446744073709551615"},
      {"length_2_63", file_bytes(uint64_t{1} << 63, "{}", ""), "at most 100000000"},
      {"array", file_bytes("[]", ""), "does not start with '{'"},
      {"leading_space", file_bytes(" {}", ""), "does not start with '{'"},
      {"not_json", file_bytes("{\"a\":", ""), "header: invalid JSON"},
      {"two_documents", file_bytes("{}{}", ""), "header: invalid JSON"},
      {"nul", file_bytes(std::string_view("{}\0", 3), ""), "NUL"},
      {"not_utf8", file_bytes("{\"\xff\":1}", ""), "header: invalid JSON"},
      {"deep", file_bytes("{\"a\":[[[[[[[[[[]]]]]]]]]]}", ""), "nested deeper"},
      {"duplicate_tensor",
       file_bytes(R"({"a":)" + entry("F32", "[1]", "[0,4]") + R"(,"a":)" +
                      entry("F32", "[1]", "[4,8]") + "}",
                  kEight),
       "duplicate key"},
      {"duplicate_field",
       file_bytes(R"({"a":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", kFour),
       "duplicate key"},
      {"metadata_list", file_bytes(R"({"__metadata__":[]})", ""), "__metadata__ is not an object"},
      {"metadata_number", file_bytes(R"({"__metadata__":{"k":1}})", ""), "is no string"},
      {"data_without_tensor", file_bytes("{}", "x"), "data bytes"},
  };
}

std::vector<BadFile> broken_entries() {
  return {
      {"entry_number", file_bytes(R"({"a":1})", ""), "exactly dtype, shape and data_offsets"},
      {"no_dtype", file_bytes(R"({"a":{"shape":[1],"data_offsets":[0,4]}})", kFour), "exactly"},
      {"extra_field",
       file_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}})", "x"),
       "exactly"},
      {"dtype_unknown", file_bytes(one("F64", "[1]", "[0,8]"), kEight), "F64"},
      {"dtype_number", file_bytes(R"({"a":{"dtype":1,"shape":[],"data_offsets":[0,4]}})", kFour),
       "dtype is"},
      {"shape_number", file_bytes(one("F32", "1", "[0,4]"), kFour), "shape is not an array"},
      {"shape_negative", file_bytes(one("F32", "[-1]", "[0,4]"), kFour), "extent of shape"},
      {"shape_fraction", file_bytes(one("F32", "[1.0]", "[0,4]"), kFour), "extent of shape"},
      {"shape_text", file_bytes(one("F32", "[\"1\"]", "[0,4]"), kFour), "extent of shape"},
      {"shape_2_63", file_bytes(one("F32", "[9223372036854775808]", "[0,4]"), kFour), "overflows"},
      {"shape_overflow", file_bytes(one("F32", "[4294967296,4294967296]", "[0,0]"), ""),
       "overflows"},
      {"shape_times_dtype", file_bytes(one("F32", "[4611686018427387904]", "[0,0]"), ""),
       "overflows"},
      {"shape_wraps_to_zero", file_bytes(one("U8", "[0,4294967296,4294967296]", "[0,0]"), ""),
       "overflows"},
      {"nine_dimensions", file_bytes(one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), "x"),
       "9 dimensions"},
      {"offsets_single", file_bytes(one("F32", "[1]", "[4]"), kFour), "not a pair"},
      {"offsets_triple", file_bytes(one("F32", "[1]", "[0,4,4]"), kFour), "not a pair"},
      {"offsets_negative", file_bytes(one("F32", "[1]", "[-4,0]"), kFour), "data_offsets[0]"},
      {"offsets_2_64", file_bytes(one("F32", "[1]", "[0,18446744073709551616]"), kFour),
       "data_offsets[1]"},
      {"offsets_backwards", file_bytes(one("F32", "[1]", "[4,0]"), kFour), "end before"},
      {"size_small", file_bytes(one("F32", "[2]", "[0,4]"), kFour), "takes 8"},
      {"size_large", file_bytes(one("F32", "[1]", "[0,8]"), kEight), "takes 4"},
      {"hole_at_start", file_bytes(one("F32", "[1]", "[4,8]"), kEight), "hole"},
      {"hole_between", file_bytes(two("[0,4]", "[8,12]"), kEight + kFour), "hole"},
      {"overlap", file_bytes(two("[0,4]", "[2,6]"), kEight), "overlap"},
      {"same_bytes", file_bytes(two("[0,4]", "[0,4]"), kFour), "overlap"},
      {"offset_2_63",
       file_bytes(one("F32", "[1]", "[9223372036854775808,9223372036854775812]"), kFour), "hole"},
      {"data_short", file_bytes(one("F32", "[2]", "[0,8]"), kFour), "truncated"},
      {"data_long", file_bytes(one("F32", "[1]", "[0,4]"), kFour + "x"), "has 5 data bytes"},
  };
}

void expect_refused(const std::vector<BadFile>& cases) {
  const TemporaryFolder folder;
  for (const BadFile& bad : cases) {
    const auto path = folder.write(std::string(bad.name) + ".safetensors", bad.bytes);
    const auto file = SafetensorsFile::open(path);
    ASSERT_FALSE(file.ok()) << bad.name;
    EXPECT_TRUE(absl::IsDataLoss(file.status())) << bad.name << ": " << file.status();
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(path.string()));
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(bad.says)) << bad.name;
  }
}

TEST(SafetensorsRules, BrokenContainersAreRefused) { expect_refused(broken_containers()); }

TEST(SafetensorsRules, BrokenEntriesAreRefused) { expect_refused(broken_entries()); }

TEST(SafetensorsRules, MessageNamesTheTensor) {
  const TemporaryFolder folder;
  const auto path = folder.write("x", file_bytes(one("F64", "[1]", "[0,8]"), kEight));
  EXPECT_THAT(std::string(SafetensorsFile::open(path).status().message()),
              HasSubstr("tensor \"a\": dtype"));
}

TEST(SafetensorsRules, HostileNamesAreEscapedAndCutInMessages) {
  const TemporaryFolder folder;
  const std::string name = "\\n\\u001b[2J" + std::string(5000, 'n');
  const auto path = folder.write("x", file_bytes(R"({")" + name + R"(":1})", ""));
  const std::string message(SafetensorsFile::open(path).status().message());
  EXPECT_THAT(message, HasSubstr("\\x0a\\x1b[2J"));
  EXPECT_LT(message.size(), 1000u);
}

TEST(SafetensorsRules, HeaderAboveTheBoundIsRefusedUnread) {
  const TemporaryFolder folder;
  const auto path = folder.write("x", file_bytes(100'000'001, "{", ""));
  std::filesystem::resize_file(path, 8 + 100'000'001);  // sparse
  const auto file = SafetensorsFile::open(path);
  EXPECT_TRUE(absl::IsDataLoss(file.status()));
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("at most 100000000"));
}

TEST(SafetensorsRules, MissingFileAndFolderAreTold) {
  const TemporaryFolder folder;
  EXPECT_TRUE(absl::IsNotFound(SafetensorsFile::open(folder.path() / "none").status()));
  EXPECT_TRUE(absl::IsDataLoss(SafetensorsFile::open(folder.path()).status()));
}

TEST(SafetensorsRules, UnusualButValidFilesLoad) {
  const TemporaryFolder folder;
  const std::string header =
      R"({"b":)" + entry("F32", "[1]", "[2,6]") + R"(,"__metadata__":{"k":"v"},)" + R"("empty":)" +
      entry("F32", "[0,7]", "[2,2]") + R"(,"s":)" + entry("BF16", "[]", "[0,2]") + "}   ";
  const auto file = SafetensorsFile::open(folder.write("x", file_bytes(header, "012345")));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata().at("k"), "v");
  EXPECT_EQ(file->tensors().size(), 3u);
  EXPECT_EQ(file->tensors().at("empty").bytes.size(), 0u);
  EXPECT_EQ(file->tensors().at("s").num_elements(), 1);
  EXPECT_EQ(std::memcmp(file->tensors().at("b").bytes.data(), "2345", 4), 0);
  EXPECT_EQ(describe(file->tensors().at("empty")), "float32 [0, 7]");
}

}  // namespace
}  // namespace mole::loader
