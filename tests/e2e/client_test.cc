// The parts of the command-line client that need no server.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "clients/mole/commands.h"
#include "clients/mole/sse_parser.h"
#include "clients/mole/url.h"

namespace mole::client {
namespace {

std::vector<std::string> parse_in_pieces(const std::string& stream, size_t piece) {
  std::vector<std::string> events;
  SseParser parser([&](const std::string& data) { events.push_back(data); });
  for (size_t at = 0; at < stream.size(); at += piece) parser.feed(stream.substr(at, piece));
  return events;
}

TEST(SseParser, SameEventsHoweverCut) {
  const std::string stream =
      ": ping\n\ndata: one\n\ndata:two\r\n\r\nevent: x\ndata: a\ndata: b\n\n\n\ndata: [DONE]\n\n";
  const std::vector<std::string> expected = {"one", "two", "a\nb", "[DONE]"};
  for (size_t piece = 1; piece <= stream.size(); ++piece) {
    EXPECT_EQ(parse_in_pieces(stream, piece), expected) << piece;
  }
}

TEST(SseParser, AnUnfinishedEventIsNone) {
  EXPECT_TRUE(parse_in_pieces("data: one\n", 3).empty());
  EXPECT_TRUE(parse_in_pieces("data: one", 3).empty());
}

TEST(Url, Parts) {
  const auto url = parse_url("http://localhost:8000/v2/");
  ASSERT_TRUE(url.ok()) << url.status();
  EXPECT_EQ(url->host, "localhost");
  EXPECT_EQ(url->port, "8000");
  EXPECT_EQ(url->prefix, "/v2");
  EXPECT_EQ(host_field(*url), "localhost:8000");
  EXPECT_EQ(parse_url("http://a")->port, "80");
  EXPECT_EQ(host_field(*parse_url("http://[::1]:1")), "[::1]:1");
}

TEST(Url, WrongOnesSayWhatIsAccepted) {
  for (const char* wrong :
       {"", "localhost", "https://a", "ftp://a", "http://", "http://:80", "http://a:", "http://a:b",
        "http://a:123456", "http://[::1", "http://a b", "http://a/\r\nX: y"}) {
    const Status status = parse_url(wrong).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << wrong;
    EXPECT_NE(status.message().find("accepted: http://"), std::string::npos) << status;
  }
}

TEST(Colours, OnlyOnATerminalWithoutNoColor) {
  EXPECT_TRUE(colours_wanted(true, nullptr));
  EXPECT_TRUE(colours_wanted(true, ""));
  EXPECT_FALSE(colours_wanted(true, "1"));
  EXPECT_FALSE(colours_wanted(false, nullptr));
}

}  // namespace
}  // namespace mole::client
