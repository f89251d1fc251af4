#include "model_loader/checkpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/model_loader/support.h"

namespace mole::loader {
namespace {

namespace fs = std::filesystem;
using test::TemporaryFolder;
using test::view_of;
using ::testing::HasSubstr;

const std::vector<float> kFour = {1, 2, 3, 4};

void add_weights(const TemporaryFolder& folder, const std::string& file,
                 const std::vector<std::string>& names) {
  std::map<std::string, TensorView> tensors;
  for (const std::string& name : names) tensors[name] = view_of(DType::kFloat32, {2, 2}, kFour);
  ASSERT_TRUE(write_safetensors(folder.path() / file, tensors).ok());
}

void add_index(const TemporaryFolder& folder, const std::map<std::string, std::string>& map) {
  folder.write("model.safetensors.index.json",
               Json{{"metadata", {{"total_size", 32}}}, {"weight_map", map}}.dump());
}

std::string error_of(const TemporaryFolder& folder, absl::StatusCode code) {
  const auto checkpoint = Checkpoint::open(folder.path());
  EXPECT_FALSE(checkpoint.ok());
  EXPECT_EQ(checkpoint.status().code(), code) << checkpoint.status();
  return std::string(checkpoint.status().message());
}

struct Sharded : ::testing::Test {
  TemporaryFolder folder;
  Sharded() {
    folder.write("config.json", R"({"model_type":"deepseek_v3"})");
    add_weights(folder, "model-00001-of-00002.safetensors", {"a", "b"});
    add_weights(folder, "model-00002-of-00002.safetensors", {"c"});
    add_index(folder, {{"a", "model-00001-of-00002.safetensors"},
                       {"b", "model-00001-of-00002.safetensors"},
                       {"c", "model-00002-of-00002.safetensors"}});
  }
};

TEST_F(Sharded, Opens) {
  const auto checkpoint = Checkpoint::open(folder.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_EQ((*checkpoint)->tensors().size(), 3u);
  EXPECT_EQ((*checkpoint)->weight_bytes(), 48);
  EXPECT_EQ((*checkpoint)->config()["model_type"], "deepseek_v3");
  EXPECT_EQ((*checkpoint)->folder(), folder.path());
}

TEST_F(Sharded, AMissingAndADamagedShardAreBothTold) {
  fs::remove(folder.path() / "model-00001-of-00002.safetensors");
  folder.write("model-00002-of-00002.safetensors", "short");
  const std::string message = error_of(folder, absl::StatusCode::kDataLoss);
  EXPECT_THAT(message, HasSubstr("model-00001-of-00002.safetensors"));
  EXPECT_THAT(message, HasSubstr("model-00002-of-00002.safetensors"));
}

TEST_F(Sharded, ATensorTheShardLacksIsTold) {
  add_index(folder, {{"a", "model-00001-of-00002.safetensors"},
                     {"b", "model-00001-of-00002.safetensors"},
                     {"c", "model-00002-of-00002.safetensors"},
                     {"d", "model-00002-of-00002.safetensors"}});
  EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss), HasSubstr("places tensor \"d\""));
}

TEST_F(Sharded, ATensorTheIndexLacksIsTold) {
  add_index(folder,
            {{"a", "model-00001-of-00002.safetensors"}, {"c", "model-00002-of-00002.safetensors"}});
  EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss),
              HasSubstr("\"b\" of model-00001-of-00002.safetensors is not in the index"));
}

TEST_F(Sharded, ATensorInTwoShardsIsTold) {
  add_weights(folder, "model-00002-of-00002.safetensors", {"b", "c"});
  EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss), HasSubstr("in another shard"));
}

TEST_F(Sharded, NamesThatLeaveTheFolderAreRefused) {
  const TemporaryFolder elsewhere;
  add_weights(elsewhere, "x.safetensors", {"a"});
  const std::vector<std::string> names = {"../x.safetensors",
                                          (elsewhere.path() / "x.safetensors").string(),
                                          "sub/x.safetensors",
                                          "..",
                                          "",
                                          ".safetensors",
                                          ".hidden.safetensors",
                                          "config.json",
                                          std::string(300, 'x') + ".safetensors"};
  for (const std::string& name : names) {
    add_index(folder, {{"a", name}});
    EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss), HasSubstr("bare file name")) << name;
  }
}

TEST_F(Sharded, MalformedIndicesAreRefused) {
  for (const std::string& text :
       {std::string("{"), std::string("[]"), std::string("{}"), std::string(R"({"weight_map":[]})"),
        std::string(R"({"weight_map":{}})"), std::string(R"({"weight_map":{"a":1}})"),
        std::string(R"({"weight_map":{"a":"x.safetensors","a":"x.safetensors"}})"),
        std::string(100, '[')}) {
    folder.write("model.safetensors.index.json", text);
    EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss),
                HasSubstr("model.safetensors.index.json"))
        << text;
  }
}

TEST_F(Sharded, OneFileBesideAnIndexIsAmbiguous) {
  add_weights(folder, "model.safetensors", {"a"});
  EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss), HasSubstr("both"));
}

TEST_F(Sharded, ManyProblemsAreCutAfterTwenty) {
  std::map<std::string, std::string> map;
  for (int i = 0; i < 50; ++i) map["t" + std::to_string(i)] = "model-00002-of-00002.safetensors";
  add_index(folder, map);
  EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss), HasSubstr("31 problems more"));
}

TEST(Checkpoint, NothingThereIsNotFound) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of(folder, absl::StatusCode::kNotFound), HasSubstr("config.json"));
  folder.write("config.json", "{}");
  EXPECT_THAT(error_of(folder, absl::StatusCode::kNotFound), HasSubstr("neither"));
  EXPECT_TRUE(absl::IsNotFound(Checkpoint::open(folder.path() / "none").status()));
  EXPECT_TRUE(absl::IsNotFound(Checkpoint::open(folder.path() / "config.json").status()));
}

TEST(Checkpoint, MalformedConfigsAreInvalid) {
  const TemporaryFolder folder;
  add_weights(folder, "model.safetensors", {"a"});
  for (const std::string& text :
       {std::string(""), std::string("[]"), std::string("{\"a\":1"),
        std::string("{\"a\":1,\"a\":2}"), std::string("{\"a\":\"\xff\"}"),
        "{\"a\":" + std::string(64, '[') + std::string(64, ']') + "}",
        std::string("{\"a\":\"") + std::string(size_t{1} << 20, 'x') + "\"}"}) {
    folder.write("config.json", text);
    EXPECT_THAT(error_of(folder, absl::StatusCode::kInvalidArgument), HasSubstr("config.json"))
        << text.substr(0, 80);
  }
  folder.write("config.json", "{\"a\":" + std::string(63, '[') + std::string(63, ']') + "}");
  EXPECT_TRUE(Checkpoint::open(folder.path()).ok());
}

TEST(Checkpoint, ADamagedSingleFileIsTold) {
  const TemporaryFolder folder;
  folder.write("config.json", "{}");
  folder.write("model.safetensors", "12345678901234567890");
  EXPECT_THAT(error_of(folder, absl::StatusCode::kDataLoss), HasSubstr("model.safetensors"));
}

}  // namespace
}  // namespace mole::loader
