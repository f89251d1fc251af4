#include "text/utf8_stream.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "tests/text/text_fixtures.h"

namespace mole::text {
namespace {

std::string in_pieces(const std::string& bytes, Random& random) {
  std::string pending, text;
  for (size_t at = 0; at < bytes.size();) {
    const size_t length = std::min(bytes.size() - at, 1 + random.below(4));
    pending += bytes.substr(at, length);
    at += length;
    const std::string piece = take_code_points(pending);
    EXPECT_TRUE(is_valid_utf8(piece));
    EXPECT_LE(pending.size(), 3u);
    text += piece;
  }
  return text + take_all(pending);
}

TEST(Utf8Stream, ReplacesEachMaximalPartOnce) {
  // Expected: the table "U+FFFD for maximal subparts" of the Unicode standard, section 3.9, and
  // Rust's from_utf8_lossy.
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"a\xF1\x80\x80\xE1\x80\xC2"
       "b\x80"
       "c\x80\xBF"
       "d",
       "a\uFFFD\uFFFD\uFFFDb\uFFFDc\uFFFD\uFFFDd"},
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82"
       "A",
       "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"
       "A"},
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xF4\x91\x92\x93\xFF", "\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF"
       "A",
       "\uFFFD\uFFFD\uFFFD\uFFFD"
       "A"},
      {"\xE2\x82", "\uFFFD"},
      {"é漢🙂", "é漢🙂"},
      {"", ""}};
  Random random;
  for (const auto& [bytes, text] : cases) {
    for (int i = 0; i < 20; ++i) EXPECT_EQ(in_pieces(bytes, random), text);
  }
}

TEST(Utf8Stream, DependsOnTheBytesAloneNotOnTheCuts) {
  Random random;
  SCOPED_TRACE(random.trace());
  const std::string alphabet = "a\x80\xBF\xC2\xE0\xA0\xED\x9F\xE2\xF0\x90\xF4\x8F\xFF";
  for (int round = 0; round < 5000; ++round) {
    std::string bytes;
    for (size_t i = random.below(12); i > 0; --i) bytes += alphabet[random.below(alphabet.size())];
    std::string pending = bytes;
    ASSERT_EQ(in_pieces(bytes, random), take_all(pending));
  }
}

}  // namespace
}  // namespace mole::text
