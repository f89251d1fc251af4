#include "runtime/output_stream.h"

#include <thread>

#include <gtest/gtest.h>

namespace mole::runtime {
namespace {

StreamEvent token(TokenId id) {
  StreamEvent event;
  event.token = id;
  return event;
}

TEST(OutputStreamTest, GivesEventsInOrder) {
  OutputStream stream(RequestId{1}, 4);
  EXPECT_FALSE(stream.try_pop());
  EXPECT_TRUE(stream.push(token(7)));
  EXPECT_TRUE(stream.push(token(8)));
  EXPECT_EQ(stream.try_pop()->token, 7);
  EXPECT_EQ(stream.try_pop()->token, 8);
  EXPECT_FALSE(stream.try_pop());
}

TEST(OutputStreamTest, FullRefusesButTheLastEventAlwaysFits) {
  OutputStream stream(RequestId{1}, 1);
  EXPECT_TRUE(stream.push(token(1)));
  EXPECT_FALSE(stream.push(token(2)));
  StreamEvent last;
  last.kind = StreamEvent::Kind::kError;
  stream.push_last(last);
  EXPECT_EQ(stream.try_pop()->token, 1);
  EXPECT_EQ(stream.try_pop()->kind, StreamEvent::Kind::kError);
}

TEST(OutputStreamTest, WakesOnlyWhenItWasEmpty) {
  OutputStream stream(RequestId{1}, 8);
  int wakes = 0;
  stream.set_wake([&wakes] { ++wakes; });
  EXPECT_EQ(wakes, 0);
  stream.push(token(1));
  stream.push(token(2));
  EXPECT_EQ(wakes, 1);
  while (stream.try_pop()) {
  }
  stream.push(token(3));
  EXPECT_EQ(wakes, 2);
}

TEST(OutputStreamTest, WakesAtOnceForWhatWaitsAlready) {
  OutputStream stream(RequestId{1}, 8);
  stream.push(token(1));
  int wakes = 0;
  stream.set_wake([&] {
    ++wakes;
    EXPECT_EQ(stream.try_pop()->token, 1);  // popping from inside is allowed
  });
  EXPECT_EQ(wakes, 1);
}

TEST(OutputStreamTest, NoEventIsLostBetweenThreads) {
  constexpr int kEvents = 20000;
  OutputStream stream(RequestId{1}, kEvents);
  std::thread writer([&stream] {
    for (int i = 0; i < kEvents; ++i) stream.push(token(i));
  });
  for (int expected = 0; expected < kEvents;) {
    if (const auto event = stream.try_pop()) {
      ASSERT_EQ(event->token, expected++);
    } else {
      std::this_thread::yield();
    }
  }
  writer.join();
}

}  // namespace
}  // namespace mole::runtime
