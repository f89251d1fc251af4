#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <thread>

namespace mole {
namespace {

TEST(BoundedQueue, RefusesWhenFullAndLeavesTheValue) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  EXPECT_TRUE(queue.try_push(std::make_unique<int>(1)));
  auto second = std::make_unique<int>(2);
  EXPECT_FALSE(queue.try_push(std::move(second)));
  ASSERT_NE(second, nullptr);
  EXPECT_EQ(*second, 2);
}

TEST(BoundedQueue, DrainsAfterClose) {
  BoundedQueue<int> queue(4);
  EXPECT_TRUE(queue.try_push(7));
  queue.close();
  EXPECT_FALSE(queue.try_push(8));
  EXPECT_EQ(queue.pop_for(std::chrono::seconds(1)), 7);
  EXPECT_EQ(queue.pop_for(std::chrono::seconds(1)), std::nullopt);
}

TEST(BoundedQueue, PassesEveryValueOnceAcrossThreads) {
  constexpr int kValues = 20'000;
  BoundedQueue<int> queue(64);
  std::thread producer([&] {
    for (int i = 0; i < kValues; ++i) {
      int value = i;
      while (!queue.try_push(std::move(value))) std::this_thread::yield();
    }
    queue.close();
  });
  int expected = 0;
  while (auto value = queue.pop_for(std::chrono::seconds(5))) EXPECT_EQ(*value, expected++);
  producer.join();
  EXPECT_EQ(expected, kValues);
}

}  // namespace
}  // namespace mole
