#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/text/text_fixtures.h"
#include "text/detokenizer.h"

namespace mole::text {
namespace {

struct Outcome {
  std::string text;
  bool stopped = false;
  std::string stop;
  bool operator==(const Outcome&) const = default;
  friend std::ostream& operator<<(std::ostream& out, const Outcome& outcome) {
    return out << '"' << outcome.text << "\" stop \"" << outcome.stop << '"';
  }
};

/// Looks at every prefix of the text, shortest first.
Outcome naive(const std::string& text, const std::vector<std::string>& stops, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string prefix = text.substr(0, end);
    std::string best;
    for (const std::string& stop : stops) {
      if (stop.size() > best.size() && prefix.ends_with(stop)) best = stop;
    }
    if (!best.empty()) {
      return {include ? prefix : prefix.substr(0, end - best.size()), true, best};
    }
  }
  return {text, false, ""};
}

Outcome in_pieces(const std::string& text, const std::vector<std::string>& stops, bool include,
                  Random& random) {
  StopMatcher matcher(stops, include);
  Outcome outcome;
  for (size_t at = 0; at < text.size();) {
    const size_t length = std::min(text.size() - at, random.below(5));
    const StopMatcher::Result result = matcher.push(text.substr(at, length));
    at += length;
    outcome.text += result.text;
    if (result.stopped) return {outcome.text, true, result.stop};
  }
  outcome.text += matcher.finish();
  return outcome;
}

TEST(StopMatcher, AgreesWithLookingAtEveryPrefix) {
  Random random;
  SCOPED_TRACE(random.trace());
  const uint64_t rounds = from_environment("MOLE_TEXT_ROUNDS", 30000);
  for (uint64_t round = 0; round < rounds; ++round) {
    // Two letters: stops overlap themselves and each other all the time.
    const auto word = [&](size_t length) {
      std::string text;
      for (; length > 0; --length) text += "ab"[random.below(2)];
      return text;
    };
    std::vector<std::string> stops(random.below(4));
    for (std::string& stop : stops) stop = word(random.below(7));
    const std::string text = word(random.below(30));
    const bool include = random.below(2) == 0;
    ASSERT_EQ(in_pieces(text, stops, include, random), naive(text, stops, include))
        << text << " stops " << testing::PrintToString(stops) << " include " << include;
  }
}

TEST(StopMatcher, SendsEverythingThatCanNotBecomeAStop) {
  StopMatcher matcher({"\n\nUser:", "</s>"}, false);
  EXPECT_EQ(matcher.push("Hello").text, "Hello");
  EXPECT_EQ(matcher.push(" <").text, " ");
  EXPECT_EQ(matcher.push("/").text, "");
  EXPECT_EQ(matcher.push("b>\n").text, "</b>");
  EXPECT_EQ(matcher.push("\n").text, "");
  EXPECT_EQ(matcher.push("\n").text, "\n");
  const StopMatcher::Result result = matcher.push("User: more");
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.stop, "\n\nUser:");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, StaysStopped) {
  StopMatcher matcher({"x"}, true);
  EXPECT_EQ(matcher.push("abxcd").text, "abx");
  const StopMatcher::Result again = matcher.push("ef");
  EXPECT_TRUE(again.stopped);
  EXPECT_EQ(again.text, "");
  EXPECT_EQ(again.stop, "x");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, WithoutStopsHoldsNothing) {
  StopMatcher matcher({"", ""}, false);
  const StopMatcher::Result result = matcher.push("text");
  EXPECT_EQ(result.text, "text");
  EXPECT_FALSE(result.stopped);
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, FindsAStopOfSeveralBytesInACodePoint) {
  StopMatcher matcher({"漢字"}, false);
  EXPECT_EQ(matcher.push("a漢").text, "a");
  EXPECT_EQ(matcher.push("学").text, "漢学");
  EXPECT_EQ(matcher.push("漢").text, "");
  EXPECT_TRUE(matcher.push("字").stopped);
}

}  // namespace
}  // namespace mole::text
