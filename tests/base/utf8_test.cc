#include "base/utf8.h"

#include <gtest/gtest.h>

namespace mole {
namespace {

TEST(Utf8, KnowsWellFormedCodePoints) {
  EXPECT_EQ(utf8_code_point_length("a"), 1);
  EXPECT_EQ(utf8_code_point_length("é"), 2);
  EXPECT_EQ(utf8_code_point_length("€"), 3);
  EXPECT_EQ(utf8_code_point_length("🐀x"), 4);
  EXPECT_EQ(utf8_code_point_length("\xf0\x9f\x90"), -1);
  EXPECT_EQ(utf8_code_point_length(""), -1);
  for (const char* bad : {"\x80", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                          "\xf8\x88\x80\x80", "\xff", "\xe2\x28\xa1"}) {
    EXPECT_EQ(utf8_code_point_length(bad), 0);
    EXPECT_FALSE(is_valid_utf8(bad));
  }
  EXPECT_TRUE(is_valid_utf8("naïve 🐀"));
  EXPECT_FALSE(is_valid_utf8("cut \xe2\x82"));
}

TEST(Utf8, JsonStringsAreAlwaysValid) {
  std::string out;
  append_json_string(&out, "a\"\\\n\t\x01 é\xff\xe2\x82");
  EXPECT_EQ(out, "\"a\\\"\\\\\\n\\t\\u0001 é\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace mole
