#include "runtime/inbox.h"

#include <gtest/gtest.h>

#include "tests/runtime/test_requests.h"

namespace mole::runtime {
namespace {

constexpr std::chrono::microseconds kNoWait{0};

std::unique_ptr<RequestState> request(uint64_t id) {
  TestRequest wanted;
  wanted.id = id;
  wanted.n = 4;
  return make_test_request(wanted);
}

TEST(InboxTest, BringsWhatWasSent) {
  Inbox inbox;
  auto sent = request(1);
  EXPECT_TRUE(inbox.submit(sent));
  EXPECT_EQ(sent, nullptr);
  inbox.abort_all(absl::UnavailableError("x"));
  Inbox::Letters letters;
  inbox.take(&letters, kNoWait);
  EXPECT_EQ(letters.submitted.size(), 1u);
  EXPECT_EQ(*letters.abort, absl::UnavailableError("x"));
  EXPECT_FALSE(letters.stop);
  inbox.take(&letters, kNoWait);
  EXPECT_TRUE(letters.submitted.empty());
  EXPECT_FALSE(letters.abort.has_value());
}

TEST(InboxTest, ManyCancellationsOfARequestAreOneLetter) {
  Inbox inbox;
  auto sent = request(1);
  inbox.submit(sent);
  for (int i = 0; i < 1000; ++i) inbox.cancel(RequestId{1}, i % 3);
  Inbox::Letters letters;
  inbox.take(&letters, kNoWait);
  ASSERT_EQ(letters.cancelled.size(), 1u);
  EXPECT_FALSE(letters.cancelled[0].all);
  EXPECT_EQ(letters.cancelled[0].indices.count(), 3u);
  inbox.cancel(RequestId{1}, std::nullopt);
  inbox.take(&letters, kNoWait);
  ASSERT_EQ(letters.cancelled.size(), 1u);
  EXPECT_TRUE(letters.cancelled[0].all);
  EXPECT_EQ(letters.cancelled[0].indices.count(), 0u);
}

TEST(InboxTest, UnknownAndEndedRequestsCannotBeCancelled) {
  Inbox inbox;
  inbox.cancel(RequestId{9}, std::nullopt);
  auto sent = request(1);
  inbox.submit(sent);
  inbox.cancel(RequestId{1}, -1);
  inbox.cancel(RequestId{1}, kSequencesPerRequestMax);
  inbox.forget(RequestId{1});
  inbox.cancel(RequestId{1}, std::nullopt);
  Inbox::Letters letters;
  inbox.take(&letters, kNoWait);
  EXPECT_TRUE(letters.cancelled.empty());
}

TEST(InboxTest, RefusesAnIdThatLives) {
  Inbox inbox;
  auto first = request(1), second = request(1);
  EXPECT_TRUE(inbox.submit(first));
  EXPECT_FALSE(inbox.submit(second));
  EXPECT_NE(second, nullptr);
  inbox.forget(RequestId{1});
  EXPECT_TRUE(inbox.submit(second));
}

TEST(InboxTest, StoppedTakesNoMore) {
  Inbox inbox;
  inbox.stop();
  auto late = request(1);
  EXPECT_FALSE(inbox.submit(late));
  Inbox::Letters letters;
  inbox.take(&letters, kNoWait);
  EXPECT_TRUE(letters.stop);
}

}  // namespace
}  // namespace mole::runtime
