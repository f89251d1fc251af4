// The server ends while clients of every kind are at it, again and again: nobody hangs, nothing
// outlives the server, and no thread ends what it runs on. Run it under TSan too:
// MOLE_TEST_ROUNDS=200 for longer, MOLE_TEST_SEED=n for one sequence of rounds.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "server/drain.h"
#include "tests/server/test_server.h"

namespace mole::server {
namespace {

uint64_t number_from(const char* variable, uint64_t fallback) {
  const char* given = std::getenv(variable);
  return given == nullptr ? fallback : std::strtoull(given, nullptr, 10);
}

TestServerOptions busy() {
  TestServerOptions options;
  options.choose = chatter();
  options.engine.max_num_seqs = 8;
  options.engine.max_queued_requests = 16;  // some are refused
  options.app.tokenizer_threads = 2;
  options.app.limits.drain_ms = 0;
  return options;
}

/// Clients that ask one thing after the other until the server is gone.
class Crowd {
 public:
  Crowd(uint16_t port, uint64_t seed, int clients) : port_(port) {
    for (int i = 0; i < clients; ++i) {
      threads_.emplace_back([this, s = seed + static_cast<uint64_t>(i)] { ask_on(s); });
    }
  }
  ~Crowd() {
    for (auto& thread : threads_) thread.join();
  }
  /// Until the server has said something so many times.
  void wait_for_replies(int64_t count) const {
    for (int64_t now = replies_; now < count; now = replies_) replies_.wait(now);
  }

 private:
  void ask_on(uint64_t seed) {
    std::mt19937_64 random(seed);
    while (ask(random)) {
    }
  }

  // False once nobody listens any more.
  bool ask(std::mt19937_64& random) {
    RawClient client(port_);
    if (!client.connected()) return false;
    const Json prompt = {{"prompt", "The mole digs"}, {"max_tokens", 1 + random() % 60}};
    Json streamed = prompt;
    streamed["stream"] = true;
    Json chosen = prompt;
    chosen["n"] = 2;
    switch (random() % 4) {
      case 0:
        client.send(post("/v1/completions", streamed.dump(), "Connection: close\r\n"));
        count_replies(client, /*pieces_max=*/1'000'000);
        return true;
      case 1:  // goes away after the first pieces
        client.send(post("/v1/completions", streamed.dump(), "Connection: close\r\n"));
        count_replies(client, 1 + static_cast<int>(random() % 3));
        return true;
      case 2:
        client.send(post("/v1/completions", chosen.dump(), "Connection: close\r\n"));
        count_replies(client, 1'000'000);
        return true;
      default:  // goes away without listening
        return client.send(post("/tokenize", prompt.dump()));
    }
  }

  void count_replies(RawClient& client, int pieces_max) {
    for (int i = 0; i < pieces_max && client.read_more(); ++i) {
      ++replies_;
      replies_.notify_all();
    }
  }

  const uint16_t port_;
  std::atomic<int64_t> replies_{0};
  std::vector<std::thread> threads_;  // last: they use the rest
};

TEST(Shutdown, UnderLoadAgainAndAgain) {
  const uint64_t seed = number_from("MOLE_TEST_SEED", std::random_device{}());
  const uint64_t rounds = number_from("MOLE_TEST_ROUNDS", 12);
  SCOPED_TRACE("MOLE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (uint64_t round = 0; round < rounds; ++round) {
    SCOPED_TRACE("round " + std::to_string(round));
    auto server = std::make_unique<TestServer>(busy());
    const std::weak_ptr<const ServedModel> model = server->app().model();
    Crowd crowd(server->port(), random(), /*clients=*/6);
    crowd.wait_for_replies(static_cast<int64_t>(random() % 60));
    if (round % 2 == 0) {  // as SIGTERM does it, with no time to drain
      drain_and_stop(server->app(), server->http(), [](std::chrono::milliseconds) {
        std::this_thread::yield();
        return false;
      });
    }
    server.reset();  // else: at once
    EXPECT_TRUE(model.expired());
  }
}

TEST(Shutdown, AWakeHoldsNothing) {
  // The engine's thread waits within a step until the client has gone and nobody but the App holds
  // the model; the wakes of the tokens that come then find nobody.
  std::atomic<bool> gone{false};
  std::atomic<int> step{0};
  TestServerOptions options = busy();
  options.choose = [&](const std::vector<TokenId>& context) {
    if (++step == 3) gone.wait(false);
    return chatter()(context);
  };
  auto server = std::make_unique<TestServer>(std::move(options));
  const std::weak_ptr<const ServedModel> model = server->app().model();
  RawClient client(server->port());
  client.send(post("/v1/completions", R"({"prompt": "a", "max_tokens": 50, "stream": true})"));
  EXPECT_TRUE(client.read_more());
  server->http().stop();
  EXPECT_EQ(model.use_count(), 1);
  gone = true;
  gone.notify_all();
  server.reset();
  EXPECT_TRUE(model.expired());
}

TEST(Shutdown, AStoppedEngineRefuses) {
  TestServer server(busy());
  server.engine().stop();
  const RawResponse response = server.post_json("/v1/completions", {{"prompt", "a"}});
  EXPECT_EQ(response.status, 503) << response.body;
}

}  // namespace
}  // namespace mole::server
