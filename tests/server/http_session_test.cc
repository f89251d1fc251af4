// Connections over real sockets: keep-alive, pipelining, deadlines, sizes, slow readers.
#include <gtest/gtest.h>

#include <future>
#include <memory>
#include <vector>

#include "tests/server/test_server.h"

namespace mole::server {
namespace {

TestServerOptions with(const std::function<void(ServerLimits&)>& change) {
  TestServerOptions options;
  change(options.app.limits);
  return options;
}

TEST(HttpSession, KeepsTheConnectionAndAnswersInOrder) {
  TestServer server;
  RawClient client(server.port());
  client.send(get("/health") + get("/nowhere") + post("/v1/completions", R"({"prompt":"a"})") +
              get("/livez"));
  for (const int status : {200, 404, 200, 200}) {
    const auto response = client.read_response();
    ASSERT_TRUE(response.has_value());
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->headers.at("connection"), "keep-alive");
  }
}

TEST(HttpSession, ClosesWhenAskedTo) {
  TestServer server;
  RawClient client(server.port());
  client.send(get("/health", "Connection: close\r\n") + get("/health"));
  EXPECT_EQ(client.read_response()->headers.at("connection"), "close");
  EXPECT_FALSE(client.read_response().has_value()) << "answered a request after the last one";
}

TEST(HttpSession, HalfClosedClientStillGetsItsAnswer) {
  TestServer server;
  RawClient client(server.port());
  client.send(get("/health"));
  client.half_close();
  // Whether the end of input is seen before or after the answer is begun is a race; either is
  // right, but an answer must be whole.
  const auto response = client.read_response();
  if (response.has_value()) {
    EXPECT_EQ(response->status, 200);
  }
}

TEST(HttpSession, Http10StreamsUntilClose) {
  TestServerOptions options;
  options.choose = say("The mole", " digs.");
  TestServer server(std::move(options));
  RawClient client(server.port());
  const std::string body = R"({"prompt": "The mole", "stream": true, "temperature": 0})";
  client.send(
      "POST /v1/completions HTTP/1.0\r\nContent-Type: application/json\r\n"
      "Content-Length: " +
      std::to_string(body.size()) + "\r\n\r\n" + body);
  const auto response = client.read_response();
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->headers.count("transfer-encoding"), 0u);
  EXPECT_EQ(response->headers.at("connection"), "close");
  EXPECT_EQ(events(response->body).back(), "[DONE]");
}

TEST(HttpSession, ContinuesWhenExpected) {
  TestServer server;
  RawClient client(server.port());
  const std::string request =
      post("/v1/completions", R"({"prompt":"a","max_tokens":1})", "Expect: 100-continue\r\n");
  const size_t body = request.find("\r\n\r\n") + 4;
  client.send(request.substr(0, body));
  EXPECT_EQ(client.read_response()->status, 100);
  client.send(request.substr(body));
  EXPECT_EQ(client.read_response()->status, 200);
}

TEST(HttpSession, RefusalsCloseAndSaySo) {
  TestServer server;
  for (const auto& [request, status] : std::vector<std::pair<std::string, int>>{
           {"GET / HTTP/1.1\r\n\r\n", 400},
           {"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413},
           {"GET /" + std::string(9'000, 'x') + " HTTP/1.1\r\nHost: a\r\n\r\n", 431},
           {"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505}}) {
    RawClient client(server.port());
    client.send(request + get("/health"));
    const auto response = client.read_response();
    ASSERT_TRUE(response.has_value()) << request.substr(0, 60);
    EXPECT_EQ(response->status, status);
    EXPECT_EQ(response->headers.at("connection"), "close");
    const Json error = parse(response->body)["error"];
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_FALSE(client.read_response().has_value()) << "the leftover became a request";
  }
}

TEST(HttpSession, BodyAtTheLimitAndOnePast) {
  TestServer server(with([](ServerLimits& l) { l.body_bytes_max = 1'000; }));
  const auto status = [&](size_t size) {
    const std::string body = R"({"prompt":"a","max_tokens":1,"x":")";
    return exchange(server.port(), post("/v1/completions",
                                        body + std::string(size - body.size() - 2, 'x') + "\"}"))
        .status;
  };
  EXPECT_EQ(status(1'000), 200);
  EXPECT_EQ(status(1'001), 413);
}

TEST(HttpSession, ConnectionsPerAddressAndInAll) {
  for (const bool per_ip : {true, false}) {
    TestServer server(with(
        [&](ServerLimits& l) { (per_ip ? l.connections_per_ip_max : l.connections_max) = 2; }));
    auto first = std::make_unique<RawClient>(server.port());
    RawClient second(server.port());
    for (RawClient* client : {first.get(), &second}) {
      client->send(get("/livez"));
      EXPECT_EQ(client->read_response()->status, 200);
    }
    RawClient third(server.port());
    third.send(get("/livez"));
    EXPECT_FALSE(third.read_response().has_value()) << "one connection too many";
    first.reset();
    // The place is free as soon as the server has seen the end; until then it may refuse again.
    bool answered = false;
    while (!answered) {
      RawClient next(server.port());
      next.send(get("/livez"));
      answered = next.read_response().has_value();
    }
  }
}

TEST(HttpSession, SlowHeadAndSlowBodyAre408) {
  TestServer server(with([](ServerLimits& l) {
    l.header_deadline_ms = 50;
    l.body_deadline_ms = 50;
  }));
  RawClient head(server.port());
  head.send("GET /health HTTP/1.1\r\nHost:");
  EXPECT_EQ(head.read_response()->status, 408);
  RawClient body(server.port());
  body.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_EQ(body.read_response()->status, 408);
  RawClient silent(server.port());
  EXPECT_EQ(silent.read_to_end(), "") << "a silent connection just ends";
}

TEST(HttpSession, BodyBelowTheRateIs408) {
  TestServer server(with([](ServerLimits& l) {
    l.body_rate_grace_ms = 50;
    l.body_rate_min_bytes_per_s = 1'000'000'000;
  }));
  RawClient client(server.port());
  client.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab");
  EXPECT_EQ(client.read_response()->status, 408);
}

TEST(HttpSession, IdleConnectionsAndManyRequestsEnd) {
  TestServer server(with([](ServerLimits& l) {
    l.keep_alive_idle_ms = 50;
    l.keep_alive_requests_max = 3;
  }));
  RawClient idle(server.port());
  idle.send(get("/livez"));
  EXPECT_TRUE(idle.read_response().has_value());
  EXPECT_EQ(idle.read_to_end(), "");
  RawClient busy(server.port());
  busy.send(get("/livez") + get("/livez") + get("/livez") + get("/livez"));
  EXPECT_EQ(busy.read_response()->headers.at("connection"), "keep-alive");
  EXPECT_EQ(busy.read_response()->headers.at("connection"), "keep-alive");
  EXPECT_EQ(busy.read_response()->headers.at("connection"), "close");
  EXPECT_FALSE(busy.read_response().has_value());
}

TEST(HttpSession, HeartbeatsWhileNothingIsSaid) {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  TestServerOptions options = with([](ServerLimits& l) { l.heartbeat_ms = 20; });
  options.choose = [released](const std::vector<TokenId>&) {
    released.wait();
    return kEos;
  };
  TestServer server(std::move(options));
  RawClient client(server.port());
  client.send(post("/v1/completions", R"({"prompt": "a", "stream": true})"));
  while (client.received().find(": ping\n\n") == std::string::npos) {
    ASSERT_TRUE(client.read_more());
  }
  release.set_value();
  const auto response = client.read_response();
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 200);
  EXPECT_EQ(events(response->body).back(), "[DONE]");
}

TEST(HttpSession, SlowReaderIsDroppedAndItsRequestCancelled) {
  TestServerOptions options = with([](ServerLimits& l) {
    l.stream_unsent_bytes_max = 4'096;
    l.stream_stall_ms = 100;
  });
  options.choose = chatter();
  TestServer server(std::move(options));
  // Enough chunks to fill what the kernel buffers for a client that reads nothing.
  std::vector<std::unique_ptr<RawClient>> clients;
  const Json body = {{"prompt", "a"},  {"n", 8},         {"max_tokens", 500},
                     {"stream", true}, {"logprobs", 20}, {"temperature", 0}};
  auto client = std::make_unique<RawClient>(server.port(), /*receive_buffer_bytes=*/1'024);
  client->send(post("/v1/completions", body.dump()));
  ASSERT_TRUE(client->read_more());  // the stream has begun; now it isn't read any more
  EXPECT_TRUE(server.engine_becomes_idle());
  const std::string rest = client->read_to_end();
  EXPECT_EQ(rest.find("[DONE]"), std::string::npos) << "the whole stream fitted somewhere";
  // The next client is served as ever.
  EXPECT_EQ(exchange(server.port(), get("/health")).status, 200);
}

TEST(HttpSession, RequestDeadlineIs504WithoutRetry) {
  TestServerOptions options = with([](ServerLimits& l) { l.request_deadline_ms = 1; });
  options.choose = chatter();
  TestServer server(std::move(options));
  const RawResponse response = server.post_json(
      "/v1/completions", {{"prompt", std::string(400, 'a')}, {"max_tokens", 100}, {"n", 8}});
  EXPECT_EQ(response.status, 504) << response.body;
  EXPECT_EQ(parse(response.body)["error"]["code"], "request_timeout");
  EXPECT_EQ(response.headers.at("x-should-retry"), "false");
}

}  // namespace
}  // namespace mole::server
