// The route table, what is common to all routes, and the small endpoints.
#include "server/routes.h"

#include <gtest/gtest.h>

#include <fstream>

#include "server/drain.h"
#include "tests/server/test_server.h"

namespace mole::server {
namespace {

std::string path_of(const Route& route) {
  const std::string path(route.path);
  return path.ends_with("/*") ? path.substr(0, path.size() - 1) + "org/fake" : path;
}

TEST(Routes, UnknownPathIs404) {
  TestServer server;
  const RawResponse response = exchange(server.port(), get("/v2/nothing"));
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(parse(response.body)["error"]["code"], "unknown_url");
}

TEST(Routes, EveryRouteKnowsItsMethods) {
  TestServer server;
  for (const Route& route : routes()) {
    const std::string path = path_of(route);
    const std::string wrong = route.method == "GET" ? "POST" : "GET";
    RawResponse response =
        exchange(server.port(), wrong + " " + path + " HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(response.status, 405) << path;
    EXPECT_NE(response.headers.at("allow").find(route.method), std::string::npos) << path;
    EXPECT_EQ(response.headers.at("allow").find(wrong), std::string::npos) << path;
    response = exchange(server.port(), "OPTIONS " + path + " HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_EQ(response.status, 204) << path;
    EXPECT_EQ(response.headers.count("access-control-allow-origin"), 0u) << "CORS is off";
  }
}

TEST(Routes, HeadOnGetRoutesHasTheLengthAndNoBody) {
  TestServer server;
  for (const Route& route : routes()) {
    if (route.method != "GET") continue;
    RawClient client(server.port());
    client.send("HEAD " + path_of(route) + " HTTP/1.1\r\nHost: a\r\n\r\n" + get("/livez"));
    const auto response = client.read_response(/*head_only=*/true);
    ASSERT_TRUE(response.has_value()) << route.path;
    EXPECT_EQ(response->status, 200) << route.path;
    EXPECT_GT(std::stoi(response->headers.at("content-length")), 0) << route.path;
    EXPECT_EQ(client.read_response()->status, 200) << "a body followed HEAD " << route.path;
  }
}

TEST(Routes, RequestIdIsEchoedOrMade) {
  TestServer server;
  const auto id = [&](const std::string& field) {
    return exchange(server.port(), get("/livez", field)).headers.at("x-request-id");
  };
  EXPECT_EQ(id("X-Request-Id: mine-1\r\n"), "mine-1");
  EXPECT_EQ(id("X-Request-Id: bad id\r\n").substr(0, 4), "req_");
  EXPECT_EQ(id("X-Request-Id: " + std::string(129, 'a') + "\r\n").substr(0, 4), "req_");
  EXPECT_NE(id(""), id(""));
}

TEST(Routes, CorsIsAnAllowList) {
  TestServerOptions options;
  options.app.allowed_origins = {"https://good.example"};
  TestServer server(std::move(options));
  const auto preflight = [&](const std::string& origin) {
    return exchange(server.port(),
                    "OPTIONS /v1/completions HTTP/1.1\r\nHost: a\r\nOrigin: " + origin + "\r\n\r\n")
        .headers;
  };
  const auto good = preflight("https://good.example");
  EXPECT_EQ(good.at("access-control-allow-origin"), "https://good.example");
  EXPECT_NE(good.at("access-control-expose-headers").find("x-request-id"), std::string::npos);
  EXPECT_EQ(preflight("https://evil.example").count("access-control-allow-origin"), 0u);
  EXPECT_EQ(preflight("null").count("access-control-allow-origin"), 0u);
}

TEST(Routes, ModelsListAndOne) {
  TestServer server;
  const Json list = parse(exchange(server.port(), get("/v1/models")).body);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 2u);
  for (const char* key : {"id", "object", "created", "owned_by"}) {
    EXPECT_TRUE(list["data"][0].contains(key));
  }
  EXPECT_EQ(parse(exchange(server.port(), get("/v1/models/fake")).body)["id"], "fake");
  EXPECT_EQ(parse(exchange(server.port(), get("/v1/models/org/fake")).body)["id"], "org/fake");
  EXPECT_EQ(parse(exchange(server.port(), get("/v1/models/org%2Ffake")).body)["id"], "org/fake");
  const RawResponse other = exchange(server.port(), get("/v1/models/other"));
  EXPECT_EQ(other.status, 404);
  EXPECT_EQ(parse(other.body)["error"]["code"], "model_not_found");
}

TEST(Routes, TokenizeAndBack) {
  TestServer server;
  const Json tokens = parse(
      server.post_json("/tokenize", {{"prompt", "The mole"}, {"return_token_strs", true}}).body);
  EXPECT_EQ(tokens["count"], tokens["tokens"].size());
  EXPECT_EQ(tokens["count"], tokens["token_strs"].size());
  EXPECT_EQ(tokens["max_model_len"], kTestContext);
  EXPECT_EQ(tokens["tokens"][0], kBos);
  Json bare = parse(
      server.post_json("/tokenize", {{"prompt", "The mole"}, {"add_special_tokens", false}}).body);
  EXPECT_TRUE(bare["token_strs"].is_null());
  const Json back = parse(server.post_json("/detokenize", {{"tokens", bare["tokens"]}}).body);
  EXPECT_EQ(back["prompt"], "The mole");
}

TEST(Routes, MetricsAreExposed) {
  TestServer server;
  exchange(server.port(), get("/livez"));
  const RawResponse response = exchange(server.port(), get("/metrics"));
  EXPECT_EQ(response.headers.at("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_NE(response.body.find("mole_http_requests_total{"), std::string::npos);
  EXPECT_NE(response.body.find("mole_kv_blocks_total"), std::string::npos);
}

TEST(Routes, NotReadyBeforeTheModelIsLoaded) {
  TestServerOptions options;
  options.loaded = false;
  TestServer server(std::move(options));
  const auto status = [&](const std::string& request) {
    return exchange(server.port(), request).status;
  };
  EXPECT_EQ(status(get("/livez")), 200);
  EXPECT_EQ(status(get("/readyz")), 503);
  EXPECT_EQ(status(get("/health")), 503);
  EXPECT_EQ(status(get("/v1/models")), 503);
  const RawResponse refused = exchange(server.port(), post("/v1/completions", R"({"prompt":"a"})"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_EQ(refused.headers.count("retry-after"), 1u);
  EXPECT_EQ(refused.headers.count("x-should-retry"), 0u) << "waiting helps";
  EXPECT_EQ(parse(refused.body)["error"]["code"], "service_unavailable");
  server.load();
  EXPECT_EQ(status(get("/readyz")), 200);
}

TEST(Routes, KeysCoverEveryRouteButHealth) {
  TestServerOptions options;
  options.app.api_keys = ApiKeys({"secret-1", "secret-2"});
  TestServer server(std::move(options));
  for (const Route& route : routes()) {
    const std::string request = std::string(route.method) + " " + path_of(route) +
                                " HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n";
    const bool open = route.path == "/health" || route.path == "/livez" || route.path == "/readyz";
    const auto status = [&](const std::string& field) {
      return exchange(server.port(), request + field + "\r\n").status;
    };
    EXPECT_EQ(status("") != 401, open) << route.path;
    EXPECT_EQ(status("Authorization: Bearer secret-3\r\n") != 401, open) << route.path;
    EXPECT_EQ(status("Authorization: Basic secret-1\r\n") != 401, open) << route.path;
    EXPECT_NE(status("Authorization: Bearer secret-1\r\n"), 401) << route.path;
    EXPECT_NE(status("authorization: bearer secret-2\r\n"), 401) << route.path;
  }
  const RawResponse refused = exchange(server.port(), get("/v1/models"));
  EXPECT_EQ(parse(refused.body)["error"]["code"], "invalid_api_key");
}

TEST(Drain, RefusesNewRequestsFinishesRunningOnesAndStops) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  RawClient running(server.port());
  running.send(post("/v1/completions", R"({"prompt":"a","max_tokens":300,"stream":true})"));
  ASSERT_TRUE(running.read_more());
  bool looked = false;
  drain_and_stop(server.app(), server.http(), [&](std::chrono::milliseconds) {
    if (!looked) {  // once, while it drains
      looked = true;
      EXPECT_EQ(exchange(server.port(), get("/readyz")).status, 503);
      EXPECT_EQ(exchange(server.port(), get("/livez")).status, 200);
      const RawResponse refused =
          exchange(server.port(), post("/v1/completions", R"({"prompt":"a"})"));
      EXPECT_EQ(refused.status, 503);
      EXPECT_EQ(refused.headers.at("connection"), "close");
    }
    return false;
  });
  const std::string stream = running.read_to_end();
  EXPECT_NE(stream.find("data: [DONE]"), std::string::npos);
  EXPECT_FALSE(RawClient(server.port()).connected());
}

TEST(Drain, EndsWhatIsStillRunningWithAnErrorEvent) {
  TestServerOptions options;
  options.choose = chatter();
  options.app.limits.drain_ms = 0;
  TestServer server(std::move(options));
  RawClient running(server.port());
  running.send(post("/v1/completions", R"({"prompt":"a","max_tokens":500,"n":8,"stream":true})"));
  ASSERT_TRUE(running.read_more());
  drain_and_stop(server.app(), server.http(), [](std::chrono::milliseconds) { return false; });
  const std::string stream = running.read_to_end();
  EXPECT_EQ(stream.find("data: [DONE]"), std::string::npos);
  EXPECT_NE(stream.find("\"code\":\"service_unavailable\""), std::string::npos);
}

}  // namespace
}  // namespace mole::server
