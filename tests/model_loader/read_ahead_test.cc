#include "model_loader/read_ahead.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "tests/model_loader/support.h"

namespace mole::loader {
namespace {

TEST(NaturalLess, NumbersInNamesCompareAsNumbers) {
  const std::vector<std::string> ordered = {"lm_head", "model.layers.2.a", "model.layers.2.b",
                                            "model.layers.10.a", "model.layers.10.a.1"};
  std::vector<std::string> sorted = ordered;
  std::reverse(sorted.begin(), sorted.end());
  std::sort(sorted.begin(), sorted.end(),
            [](const std::string& a, const std::string& b) { return natural_less(a, b); });
  EXPECT_EQ(sorted, ordered);
  EXPECT_FALSE(natural_less("a.2", "a.2"));
  EXPECT_FALSE(natural_less("a.02", "a.2"));
  EXPECT_FALSE(natural_less("a.2", "a.02"));
}

TEST(ReadAhead, BytesThatWereLetGoReadTheSame) {
  const test::TemporaryFolder folder;
  std::vector<std::byte> values(std::size_t{4} << 20);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::byte>(i * 131 >> 7);
  const std::map<std::string, TensorView> tensors = {
      {"a.10", {DType::kUInt8, {static_cast<int64_t>(values.size())}, values}},
      {"a.9", {DType::kUInt8, {static_cast<int64_t>(values.size())}, values}}};
  ASSERT_TRUE(write_safetensors(folder.path() / "model.safetensors", tensors).ok());
  std::ofstream(folder.path() / "config.json") << "{}";
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ReadAhead read_ahead(*checkpoint, 1 << 20);  // the second tensor waits until the first is done
  for (const auto& [name, view] : (*checkpoint)->tensors()) {
    ASSERT_TRUE(std::ranges::equal(view.bytes, values)) << name;
    read_ahead.let_go(view.bytes);
    ASSERT_TRUE(std::ranges::equal(view.bytes, values)) << name << ", let go";
  }
}

TEST(ReadAhead, EndsWhileItsWindowIsFull) {
  const test::TemporaryFolder folder;
  const std::vector<std::byte> values(4096);
  const std::map<std::string, TensorView> tensors = {{"a", {DType::kUInt8, {4096}, values}},
                                                     {"b", {DType::kUInt8, {4096}, values}}};
  ASSERT_TRUE(write_safetensors(folder.path() / "model.safetensors", tensors).ok());
  std::ofstream(folder.path() / "config.json") << "{}";
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const ReadAhead read_ahead(*checkpoint, 1);
}

}  // namespace
}  // namespace mole::loader
