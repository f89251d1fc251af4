#include "base/json.h"

#include <gtest/gtest.h>

#include "base/limit_error.h"

namespace mole {
namespace {

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  const auto parsed = parse_json(text, limits);
  EXPECT_FALSE(parsed.ok()) << text.substr(0, 80);
  return std::string(parsed.status().message());
}

TEST(Json, ParsesOneDocument) {
  const auto parsed = parse_json(R"({"a":[1,-2.5,true,null,"é"],"b":{}})");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ((*parsed)["a"][1], -2.5);
  EXPECT_EQ((*parsed)["a"][4], "é");
}

TEST(Json, RefusesWhatIsNotJson) {
  for (const char* text :
       {"", "{", "[1,]", "{\"a\":}", "nul", "1 2", "[1]x", "{\"a\" 1}", "'a'", "[01]", "+1",
        "\"\x80\"", "\"\xed\xa0\x80\"", "[1e400]", "NaN", "\"\n\""}) {
    EXPECT_NE(error_of(text).find("invalid JSON"), std::string::npos) << text;
  }
}

TEST(Json, RefusesNul) {
  using namespace std::string_view_literals;
  EXPECT_NE(error_of("123\0"sv).find("NUL at byte 3"), std::string::npos);
}

TEST(Json, RefusesDuplicateKeys) {
  EXPECT_NE(error_of(R"({"a":1,"b":{"a":1},"a":2})").find("duplicate key \"a\""),
            std::string::npos);
  EXPECT_TRUE(parse_json(R"([{"a":1},{"a":2}])").ok());
}

TEST(Json, BoundsDepthNodesAndKeysExactly) {
  const std::string deep64 = std::string(64, '[') + std::string(64, ']');
  const std::string deep65 = std::string(65, '[') + std::string(65, ']');
  EXPECT_TRUE(parse_json(deep64).ok());
  EXPECT_NE(error_of(deep65).find("deeper than 64"), std::string::npos);
  EXPECT_NE(error_of(std::string(100'000, '[')).find("deeper than 64"), std::string::npos);
  EXPECT_TRUE(parse_json("[1,2]", {.nodes_max = 3}).ok());
  EXPECT_NE(error_of("[1,2,3]", {.nodes_max = 3}).find("more than 3 values"), std::string::npos);
  EXPECT_TRUE(parse_json(R"({"a":1,"b":2})", {.object_keys_max = 2}).ok());
  EXPECT_NE(error_of(R"({"a":1,"b":2,"c":3})", {.object_keys_max = 2}).find("more than 2 keys"),
            std::string::npos);
}

TEST(Json, ErrorsNameThePassedLimit) {
  const auto passed = [](std::string_view text, const JsonLimits& limits) {
    return passed_limit(parse_json(text, limits).status());
  };
  EXPECT_EQ(passed("[[1]]", {.depth_max = 1}), "depth_max");
  EXPECT_EQ(passed("[1,2]", {.nodes_max = 2}), "nodes_max");
  EXPECT_EQ(passed(R"({"a":1,"b":2})", {.object_keys_max = 1}), "object_keys_max");
  EXPECT_EQ(passed("[1", {}), "");
  EXPECT_EQ(passed(R"({"a":1,"a":2})", {}), "");
  EXPECT_EQ(passed_limit(absl::OkStatus()), "");
}

}  // namespace
}  // namespace mole
