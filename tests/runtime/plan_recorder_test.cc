#include "runtime/plan_recorder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/runtime/test_requests.h"

namespace mole::runtime {
namespace {

using testing::HasSubstr;
using testing::Not;

/// A plan of one prompt's first tokens.
StepPlan plan_of(RequestState* request) {
  StepPlan plan;
  plan.num_tokens = 3;
  plan.chunks.push_back({.sequence = &request->sequences[0], .count = 3});
  return plan;
}

TEST(PlanRecorderTest, KeepsTheLastPlansOldestFirst) {
  PlanRecorder recorder(/*plans_max=*/2, /*chunks_max=*/4);
  EXPECT_TRUE(recorder.recent().empty());
  for (uint64_t id = 1; id <= 3; ++id) {
    const auto request = make_test_request({.id = id, .prompt = {71, 72, 73}});
    recorder.record(plan_of(request.get()), static_cast<TimeUs>(100 * id));
  }  // the requests are gone, their plans stay
  const auto lines = recorder.recent();
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_THAT(lines[0], HasSubstr(R"({"step":1,"us":200,"plan":{"tokens":3,)"));
  EXPECT_THAT(lines[0], HasSubstr(R"("request":2,"index":0,"first":0,"count":3)"));
  EXPECT_THAT(lines[1], HasSubstr(R"("request":3)"));
  for (const auto& line : lines) EXPECT_THAT(line, Not(HasSubstr("71"))) << "a token id";
}

TEST(PlanRecorderTest, LeavesOutStepsThatDoNothing) {
  PlanRecorder recorder(2, 4);
  recorder.record(StepPlan(), 1);
  EXPECT_TRUE(recorder.recent().empty());
}

TEST(PlanRecorderTest, KeepsNothingIfNotWanted) {
  PlanRecorder recorder(0, 4);
  const auto request = make_test_request({});
  recorder.record(plan_of(request.get()), 1);
  EXPECT_TRUE(recorder.recent().empty());
}

TEST(PlanRecorderTest, ReadersNeverSeeHalfAPlan) {
  PlanRecorder recorder(4, 4);
  const auto request = make_test_request({});
  StepPlan even = plan_of(request.get()), odd = even;
  odd.chunks.push_back(odd.chunks.front());
  odd.num_tokens = 6;
  std::atomic<bool> done{false};
  std::thread writer([&] {
    for (int i = 0; i < 20'000; ++i) recorder.record(i % 2 == 0 ? even : odd, i);
    done = true;
  });
  while (!done) {
    for (const auto& line : recorder.recent()) {
      const bool two = line.find("},{") != std::string::npos;
      EXPECT_EQ(line.find(R"("tokens":6)") != std::string::npos, two) << line;
    }
  }
  writer.join();
}

}  // namespace
}  // namespace mole::runtime
