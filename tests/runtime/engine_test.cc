// The engine with its thread, on the fake model: whole life of requests, refusals, failures.
#include "runtime/engine.h"

#include <condition_variable>
#include <functional>
#include <mutex>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/sim/fake_model.h"

namespace mole::runtime {
namespace {

using ::testing::HasSubstr;
using Kind = StreamEvent::Kind;

// Reads a stream to its end; woken by the stream, never by time.
class Reader {
 public:
  explicit Reader(std::shared_ptr<OutputStream> stream) : stream_(std::move(stream)) {
    stream_->set_wake([this] {
      std::lock_guard lock(mutex_);
      woken_ = true;
      wake_.notify_one();
    });
  }

  StreamEvent next() {
    while (true) {
      if (auto event = stream_->try_pop()) return *std::move(event);
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [this] { return woken_; });
      woken_ = false;
    }
  }

  // All events of `n` sequences, the closing ones included.
  std::vector<StreamEvent> rest(int32_t n) {
    std::vector<StreamEvent> events;
    for (int32_t open = n; open > 0;) {
      events.push_back(next());
      if (events.back().kind == Kind::kFinished) --open;
      if (events.back().kind == Kind::kError) open = 0;
    }
    return events;
  }

 private:
  std::shared_ptr<OutputStream> stream_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool woken_ = false;
};

// Holds the engine's thread before a step of the model until the test has done something.
class Gate {
 public:
  std::function<void(int64_t)> before(int64_t step) {
    return [this, step](int64_t now) {
      std::unique_lock lock(mutex_);
      if (now != step) return;
      reached_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_; });
    };
  }
  void wait_until_reached() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return reached_; });
  }
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool reached_ = false;
  bool open_ = false;
};

class EngineTest : public ::testing::Test {
 protected:
  void start(const EngineOptions& options = {}, const sim::FakeModelOptions& model = {}) {
    auto engine =
        Engine::create(std::make_unique<sim::FakeModel>(model), options, &clock_, &metrics_);
    ASSERT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  GenerateRequest request(std::vector<TokenId> prompt, int32_t max_tokens) {
    GenerateRequest request;
    request.id = engine_->next_request_id();
    request.prompt = std::move(prompt);
    request.sampling.max_tokens = max_tokens;
    request.sampling.ignore_eos = true;
    request.sampling.seed = 7;
    return request;
  }

  SteadyClock clock_;
  Metrics metrics_;
  Gate gate_;
  std::unique_ptr<Engine> engine_;  // last: its thread uses the others until it is destroyed
};

TEST_F(EngineTest, GeneratesUpToMaxTokens) {
  start();
  auto stream = engine_->submit(request({5, 6, 7}, 4));
  ASSERT_TRUE(stream.ok()) << stream.status();
  const auto events = Reader(*stream).rest(1);
  ASSERT_EQ(events.size(), 5u);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(events[i].kind, Kind::kToken);
  EXPECT_EQ(events[4].finish_reason, FinishReason::kLength);
  EXPECT_EQ(events[4].usage.prompt_tokens, 3);
  EXPECT_EQ(events[4].usage.completion_tokens, 4);
}

TEST_F(EngineTest, SameSeedSameTokensWhateverElseRuns) {
  start();
  const auto tokens_of = [](const std::vector<StreamEvent>& events) {
    std::vector<TokenId> tokens;
    for (const auto& event : events) {
      if (event.kind == Kind::kToken) tokens.push_back(event.token);
    }
    return tokens;
  };
  const auto alone = tokens_of(Reader(*engine_->submit(request({5, 6, 7}, 40))).rest(1));
  std::vector<std::shared_ptr<OutputStream>> others;
  for (TokenId i = 0; i < 20; ++i) others.push_back(*engine_->submit(request({i, 2, 3}, 30)));
  const auto crowded = tokens_of(Reader(*engine_->submit(request({5, 6, 7}, 40))).rest(1));
  EXPECT_EQ(alone, crowded);
  for (auto& other : others) Reader(other).rest(1);
}

TEST_F(EngineTest, SeveralSequencesDrawFromTheirOwnStreams) {
  start();
  GenerateRequest several = request(std::vector<TokenId>(100, 9), 12);
  several.n = 3;
  const auto events = Reader(*engine_->submit(several)).rest(3);
  std::vector<std::vector<TokenId>> tokens(3);
  int finished = 0;
  for (const auto& event : events) {
    if (event.kind == Kind::kToken) tokens[event.index].push_back(event.token);
    if (event.kind == Kind::kFinished) ++finished;
  }
  EXPECT_EQ(finished, 3);
  for (const auto& sequence : tokens) EXPECT_EQ(sequence.size(), 12u);
  EXPECT_NE(tokens[0], tokens[1]);
  EXPECT_NE(tokens[1], tokens[2]);
}

TEST_F(EngineTest, EosEndsWithStopAndIsNotSent) {
  sim::FakeModelOptions model;
  model.vocab_size = 4;
  model.eos_token_ids = {0, 1, 2, 3};
  start({}, model);
  GenerateRequest stops = request({1, 2}, 10);
  stops.sampling.ignore_eos = false;
  const auto events = Reader(*engine_->submit(stops)).rest(1);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].finish_reason, FinishReason::kStop);
  EXPECT_GE(events[0].stop_token, 0);
  EXPECT_EQ(events[0].usage.completion_tokens, 1);
}

TEST_F(EngineTest, ScoresThePrompt) {
  start();
  GenerateRequest scored = request({5, 6, 7, 8}, 0);
  scored.sampling.prompt_logprobs = 2;
  const auto events = Reader(*engine_->submit(scored)).rest(1);
  ASSERT_EQ(events.size(), 5u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(events[i].kind, Kind::kPromptToken);
    EXPECT_EQ(events[i].token, 5 + i);
    EXPECT_EQ(events[i].has_logprobs, i > 0);
    EXPECT_EQ(events[i].logprobs.top.size(), i > 0 ? 2u : 0u);
  }
  EXPECT_EQ(events[4].usage.completion_tokens, 0);
}

TEST_F(EngineTest, CancelEndsTheRequest) {
  sim::FakeModelOptions model;
  model.before_step = gate_.before(5);
  start({}, model);
  auto stream = *engine_->submit(request({5, 6, 7}, 500));
  Reader reader(stream);
  reader.next();
  engine_->cancel(stream->id());
  gate_.open();
  EXPECT_EQ(reader.rest(1).back().finish_reason, FinishReason::kCancelled);
}

TEST_F(EngineTest, GaugesAreZeroAfterACancellation) {
  sim::FakeModelOptions model;
  model.before_step = gate_.before(5);
  start({}, model);
  auto stream = *engine_->submit(request({5, 6, 7}, 500));
  Reader reader(stream);
  reader.next();
  engine_->cancel(stream->id());
  gate_.open();
  reader.rest(1);
  engine_.reset();  // joins the thread: the gauges have their last values
  const std::string text = metrics_.expose();
  EXPECT_THAT(text, HasSubstr("mole_kv_blocks_used 0\n"));
  EXPECT_THAT(text, HasSubstr("mole_requests_running 0\n"));
  EXPECT_THAT(text, HasSubstr("mole_waiting_tokens 0\n"));
}

TEST_F(EngineTest, CancelOfOneSequenceLeavesTheOthers) {
  EngineOptions options;
  options.stream_events_max = 4096;
  sim::FakeModelOptions model;
  model.before_step = gate_.before(5);
  start(options, model);
  GenerateRequest both = request({5, 6, 7}, 400);
  both.n = 2;
  auto stream = *engine_->submit(both);
  Reader reader(stream);
  reader.next();
  engine_->cancel(stream->id(), 1);
  gate_.open();
  int cancelled = 0, whole = 0;
  for (const auto& event : reader.rest(2)) {
    if (event.kind != Kind::kFinished) continue;
    cancelled += event.finish_reason == FinishReason::kCancelled && event.index == 1;
    whole += event.finish_reason == FinishReason::kLength && event.index == 0;
  }
  EXPECT_EQ(cancelled, 1);
  EXPECT_EQ(whole, 1);
}

TEST_F(EngineTest, SlowReaderIsCancelledWithAnError) {
  EngineOptions options;
  options.stream_events_max = 8;
  start(options);
  auto stream = *engine_->submit(request({5, 6, 7}, 400));
  // Nobody reads until a second request shows that the engine went on by itself.
  Reader(*engine_->submit(request({5}, 8))).rest(1);
  while (!engine_->idle()) Reader(*engine_->submit(request({5}, 1))).rest(1);
  const auto events = Reader(stream).rest(1);
  ASSERT_EQ(events.size(), 9u);
  EXPECT_EQ(events.back().kind, Kind::kError);
  EXPECT_THAT(std::string(events.back().error.message()), HasSubstr("slow reader"));
}

TEST_F(EngineTest, ModelFailureEndsEveryRequestAndTheEngine) {
  sim::FakeModelOptions model;
  model.fail_at_step = 3;
  start({}, model);
  const auto events = Reader(*engine_->submit(request({5, 6, 7}, 400))).rest(1);
  EXPECT_EQ(events.back().kind, Kind::kError);
  EXPECT_EQ(events.back().error.code(), absl::StatusCode::kInternal);
  EXPECT_EQ(engine_->submit(request({5}, 1)).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(EngineTest, TellsItsLastPlansEvenWhileAStepHangs) {
  sim::FakeModelOptions model;
  model.before_step = gate_.before(3);
  start({.step_history = 2}, model);
  Reader reader(*engine_->submit(request({5, 6, 7}, 400)));
  gate_.wait_until_reached();  // from here nobody records, so no plan is left out
  std::vector<std::string> plans = engine_->recent_plans();
  ASSERT_EQ(plans.size(), 2u);
  for (const std::string& plan : plans) {
    EXPECT_THAT(plan, HasSubstr(R"("request":1,"index":0)"));
  }
  gate_.open();
  reader.rest(1);
  plans = engine_->recent_plans();
  ASSERT_EQ(plans.size(), 2u);
  EXPECT_THAT(plans[1], HasSubstr(R"("first":401,"count":1)"));  // the token before the last
}

TEST_F(EngineTest, NanEndsOnlyItsRequest) {
  sim::FakeModelOptions model;
  model.nan_token = 13;
  start({}, model);
  GenerateRequest good = request({5, 6}, 60);
  good.sampling.logit_bias = {{13, -100.0f}};
  auto good_stream = *engine_->submit(good);
  const auto bad = Reader(*engine_->submit(request({5, 13}, 60))).rest(1);
  ASSERT_EQ(bad.size(), 1u);
  EXPECT_EQ(bad[0].kind, Kind::kError);
  EXPECT_EQ(Reader(good_stream).rest(1).back().finish_reason, FinishReason::kLength);
}

TEST_F(EngineTest, DrainRefusesNewRequestsAndFinishesOldOnes) {
  sim::FakeModelOptions model;
  model.before_step = gate_.before(5);
  start({}, model);
  Reader reader(*engine_->submit(request({5, 6, 7}, 100)));
  engine_->begin_drain();
  EXPECT_EQ(engine_->submit(request({5}, 1)).status().code(), absl::StatusCode::kUnavailable);
  gate_.open();
  EXPECT_EQ(reader.rest(1).back().finish_reason, FinishReason::kLength);
}

TEST_F(EngineTest, AbortAllEndsWithTheGivenStatus) {
  sim::FakeModelOptions model;
  model.before_step = gate_.before(5);
  start({}, model);
  Reader reader(*engine_->submit(request({5, 6, 7}, 500)));
  reader.next();
  engine_->abort_all(absl::UnavailableError("shutting down"));
  gate_.open();
  EXPECT_EQ(reader.rest(1).back().error, absl::UnavailableError("shutting down"));
}

TEST_F(EngineTest, DestructionEndsWhatRuns) {
  start();
  auto stream = *engine_->submit(request({5, 6, 7}, 500));
  engine_.reset();
  EXPECT_NE(Reader(stream).rest(1).back().kind, Kind::kToken);
}

TEST_F(EngineTest, DeadlineInThePastEndsAtOnce) {
  start();
  GenerateRequest late = request({5, 6, 7}, 500);
  late.deadline_us = 1;
  const auto events = Reader(*engine_->submit(late)).rest(1);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].finish_reason, FinishReason::kDeadline);
}

TEST_F(EngineTest, RefusesWhatIsTooLongNamingIt) {
  start();
  const auto refused = engine_->submit(request(std::vector<TokenId>(500, 3), 13));
  EXPECT_EQ(refused.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("context_length_exceeded"));
}

TEST_F(EngineTest, FindsPromptsAgainInThePrefixCache) {
  start();
  const std::vector<TokenId> prompt(200, 11);
  EXPECT_EQ(Reader(*engine_->submit(request(prompt, 2))).rest(1).back().usage.cached_tokens, 0);
  EXPECT_EQ(Reader(*engine_->submit(request(prompt, 2))).rest(1).back().usage.cached_tokens, 192);
  GenerateRequest other_salt = request(prompt, 2);
  other_salt.cache_salt = "tenant";
  EXPECT_EQ(Reader(*engine_->submit(other_salt)).rest(1).back().usage.cached_tokens, 0);
}

TEST_F(EngineTest, ACacheBeyondTheMachinesMemoryIsRefused) {
  EngineOptions options;
  options.kv_cache_bytes = int64_t{1}
                           << 39;  // a block is 512 bytes: 2^30 of them are a legal number
  const auto engine = Engine::create(std::make_unique<sim::FakeModel>(sim::FakeModelOptions{}),
                                     options, &clock_, &metrics_);
  EXPECT_EQ(engine.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(engine.status().message()), HasSubstr("kv-cache-bytes"));
}

TEST_F(EngineTest, MetricsTellWhatHappened) {
  start();
  Reader(*engine_->submit(request({5, 6, 7}, 4))).rest(1);
  const std::string text = metrics_.expose();
  EXPECT_THAT(text, HasSubstr("mole_generation_tokens_total 4"));
  EXPECT_THAT(text, HasSubstr("mole_prompt_tokens_total 3"));
  EXPECT_THAT(text, HasSubstr("mole_request_success_total{finish_reason=\"length\"} 1"));
}

}  // namespace
}  // namespace mole::runtime
