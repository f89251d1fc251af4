// POST /v1/completions over a real socket: what the answer holds, whole and streamed.
#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "tests/server/test_server.h"

namespace mole::server {
namespace {

const std::string kReply = " digs a tunnel under the garden.";

TestServerOptions saying(const std::string& text) {
  TestServerOptions options;
  options.choose = say("The mole", text);
  return options;
}

Json ask(Json more = Json::object()) {
  Json body = {{"prompt", "The mole"}, {"max_tokens", 64}, {"temperature", 0}};
  body.update(more);
  return body;
}

/// All events of a stream, parsed; checks what every stream must keep to.
std::vector<Json> stream(const TestServer& server, const Json& body) {
  const RawResponse response = server.post_json("/v1/completions", body);
  EXPECT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(response.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(response.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(response.headers.at("x-accel-buffering"), "no");
  auto lines = events(response.body);
  EXPECT_EQ(lines.empty() ? "" : lines.back(), "[DONE]");
  if (!lines.empty()) lines.pop_back();
  std::vector<Json> chunks;
  for (const auto& line : lines) {
    EXPECT_EQ(line.find('\n'), std::string::npos);
    chunks.push_back(parse(line));
    for (const char* key : {"id", "created", "model", "object"}) {
      EXPECT_EQ(chunks.back()[key], chunks.front()[key]) << key << " changes within a stream";
    }
  }
  return chunks;
}

std::string text_of(const std::vector<Json>& chunks, int index = 0) {
  std::string text;
  for (const Json& chunk : chunks) {
    for (const Json& choice : chunk["choices"]) {
      if (choice["index"] == index) text += choice["text"].get<std::string>();
    }
  }
  return text;
}

TEST(Completions, AnswersWhole) {
  TestServer server(saying(kReply));
  const RawResponse response = server.post_json("/v1/completions", ask());
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(response.headers.at("content-type"), "application/json");
  EXPECT_EQ(response.headers.at("x-request-id").substr(0, 4), "req_");
  EXPECT_EQ(response.headers.count("openai-processing-ms"), 1u);
  const Json body = parse(response.body);
  EXPECT_EQ(body["object"], "text_completion");
  EXPECT_EQ(body["id"].get<std::string>().substr(0, 5), "cmpl-");
  EXPECT_EQ(body["model"], "fake");
  ASSERT_EQ(body["choices"].size(), 1u);
  EXPECT_EQ(body["choices"][0]["text"], kReply);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "stop");
  EXPECT_TRUE(body["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(
      body["usage"]["total_tokens"].get<int>(),
      body["usage"]["prompt_tokens"].get<int>() + body["usage"]["completion_tokens"].get<int>());
  EXPECT_EQ(body["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
}

TEST(Completions, StreamEqualsWholeAnswer) {
  TestServer server(saying(kReply));
  const auto chunks = stream(server, ask({{"stream", true}}));
  EXPECT_EQ(text_of(chunks), kReply);
  ASSERT_GE(chunks.size(), 3u);
  for (size_t i = 0; i < chunks.size(); ++i) {
    const Json& choice = chunks[i]["choices"][0];
    if (i + 1 < chunks.size()) {
      EXPECT_TRUE(choice["finish_reason"].is_null()) << i;
    } else {
      EXPECT_EQ(choice["finish_reason"], "stop");
    }
    EXPECT_FALSE(chunks[i].contains("usage")) << "usage was not asked for";
  }
}

TEST(Completions, UsageIsAnExtraChunkAndNullBefore) {
  TestServer server(saying(kReply));
  const auto chunks =
      stream(server, ask({{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
  for (size_t i = 0; i + 1 < chunks.size(); ++i) {
    ASSERT_TRUE(chunks[i].contains("usage"));
    EXPECT_TRUE(chunks[i]["usage"].is_null());
  }
  EXPECT_TRUE(chunks.back()["choices"].empty());
  EXPECT_GT(chunks.back()["usage"]["completion_tokens"], 0);
}

TEST(Completions, LengthAndDefaultMaxTokens) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  Json body = parse(server.post_json("/v1/completions", ask({{"max_tokens", 5}})).body);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["completion_tokens"], 5);
  body = parse(server.post_json("/v1/completions", {{"prompt", "a"}, {"temperature", 0}}).body);
  EXPECT_EQ(body["usage"]["completion_tokens"], 16);  // OpenAI's default
}

TEST(Completions, StopStringAcrossTokensIsNeitherSentNorPassed) {
  TestServer server(saying(kReply));
  for (const bool streamed : {false, true}) {
    const Json body = ask({{"stop", {"nel under", "zebra"}}, {"stream", streamed}});
    if (streamed) {
      const auto chunks = stream(server, body);
      EXPECT_EQ(text_of(chunks), " digs a tun");
      EXPECT_EQ(chunks.back()["choices"][0]["finish_reason"], "stop");
      EXPECT_EQ(chunks.back()["choices"][0]["stop_reason"], "nel under");
    } else {
      const Json answer = parse(server.post_json("/v1/completions", body).body);
      EXPECT_EQ(answer["choices"][0]["text"], " digs a tun");
      EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
    }
  }
  const Json kept =
      parse(server
                .post_json("/v1/completions",
                           ask({{"stop", "tunnel"}, {"include_stop_str_in_output", true}}))
                .body);
  EXPECT_EQ(kept["choices"][0]["text"], " digs a tunnel");
  EXPECT_TRUE(server.engine_becomes_idle());
}

TEST(Completions, HeldBackTextIsSentWhenNoStopFollows) {
  TestServer server(saying(" a tun"));
  EXPECT_EQ(text_of(stream(server, ask({{"stop", "tunnel"}, {"stream", true}}))), " a tun");
}

TEST(Completions, NeverSplitsACodePoint) {
  const std::string text =
      " gr\xc3\xbc\xc3\x9f"
      "e \xf0\x9f\x90\xbe dig";
  TestServer server(saying(text));
  const auto chunks = stream(server, ask({{"stream", true}}));
  EXPECT_EQ(text_of(chunks), text);  // parse() has checked each chunk's UTF-8
}

TEST(Completions, ChoicesOfSeveralPromptsAndSeveralSequences) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  const Json request = {{"prompt", {"a", "b", "c"}}, {"n", 2}, {"max_tokens", 4}, {"seed", 7}};
  const Json whole = parse(server.post_json("/v1/completions", request).body);
  ASSERT_EQ(whole["choices"].size(), 6u);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(whole["choices"][static_cast<size_t>(i)]["index"], i);
  EXPECT_EQ(whole["usage"]["completion_tokens"], 24);
  EXPECT_EQ(whole["usage"]["prompt_tokens"], 6);  // each prompt once: BOS and a letter

  Json streamed = request;
  streamed["stream"] = true;
  const auto chunks = stream(server, streamed);
  std::vector<int> ends(6, 0);
  for (const Json& chunk : chunks) {
    for (const Json& choice : chunk["choices"]) {
      ends[choice["index"].get<size_t>()] += choice["finish_reason"].is_null() ? 0 : 1;
    }
  }
  EXPECT_EQ(ends, std::vector<int>(6, 1));
  for (int i = 0; i < 6; ++i) {
    EXPECT_EQ(text_of(chunks, i), whole["choices"][static_cast<size_t>(i)]["text"]) << i;
  }
}

TEST(Completions, PromptAsTextOrTokensIsTheSame) {
  TestServer server(saying(kReply));
  const auto ids = test_tokenizer()->encode("The mole", {}).value();
  for (const Json& prompt : {Json("The mole"), Json({"The mole"}), Json(ids), Json({ids})}) {
    const Json answer = parse(server.post_json("/v1/completions", ask({{"prompt", prompt}})).body);
    EXPECT_EQ(answer["choices"][0]["text"], kReply) << prompt;
  }
}

TEST(Completions, LogprobsListsAgreeWithTheText) {
  TestServer server(saying(kReply));
  const Json answer = parse(server.post_json("/v1/completions", ask({{"logprobs", 3}})).body);
  const Json& logprobs = answer["choices"][0]["logprobs"];
  const size_t tokens = logprobs["tokens"].size();
  ASSERT_GT(tokens, 2u);
  std::string joined;
  for (size_t i = 0; i < tokens; ++i) {
    EXPECT_EQ(logprobs["text_offset"][i], joined.size());  // ASCII here
    joined += logprobs["tokens"][i].get<std::string>();
    EXPECT_EQ(logprobs["top_logprobs"][i].size(), 3u);
    EXPECT_EQ(logprobs["top_logprobs"][i][logprobs["tokens"][i].get<std::string>()],
              logprobs["token_logprobs"][i]);
  }
  EXPECT_EQ(joined, kReply);
  EXPECT_EQ(logprobs["token_logprobs"].size(), tokens);
  EXPECT_EQ(logprobs["text_offset"].size(), tokens);
}

TEST(Completions, StreamedLogprobsEqualWholeOnes) {
  TestServer server(saying(kReply));
  const Json whole = parse(server.post_json("/v1/completions", ask({{"logprobs", 2}})).body);
  Json joined = {{"tokens", Json::array()},
                 {"token_logprobs", Json::array()},
                 {"top_logprobs", Json::array()},
                 {"text_offset", Json::array()}};
  for (const Json& chunk : stream(server, ask({{"logprobs", 2}, {"stream", true}}))) {
    for (auto& [key, list] : joined.items()) {
      for (const Json& entry : chunk["choices"][0]["logprobs"][key]) list.push_back(entry);
    }
  }
  EXPECT_EQ(joined, whole["choices"][0]["logprobs"]);
}

// What lm-eval's local-completions does with echo: sum token_logprobs[ctxlen:-1], and call a token
// greedy when it is the key of the largest top_logprob.
TEST(Completions, EchoServesLmEval) {
  TestServer server(saying(kReply));
  const std::string text = "The mole digs";
  const auto ids = test_tokenizer()->encode(text, {}).value();
  const RawResponse response = server.post_json("/v1/completions", {{"prompt", {ids, ids}},
                                                                    {"echo", true},
                                                                    {"logprobs", 1},
                                                                    {"max_tokens", 1},
                                                                    {"temperature", 0}});
  ASSERT_EQ(response.status, 200) << response.body;
  const Json answer = parse(response.body);
  ASSERT_EQ(answer["choices"].size(), 2u);
  for (const Json& choice : answer["choices"]) {
    EXPECT_EQ(choice["text"].get<std::string>().substr(0, text.size()), text);
    const Json& logprobs = choice["logprobs"];
    ASSERT_EQ(logprobs["tokens"].size(), ids.size() + 1);
    EXPECT_TRUE(logprobs["token_logprobs"][0].is_null());
    EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
    const size_t prompt_end = test_tokenizer()->encode("The mole", {}).value().size();
    for (size_t i = prompt_end; i < ids.size(); ++i) {
      const Json& top = logprobs["top_logprobs"][i];
      const auto best = std::max_element(top.begin(), top.end());
      EXPECT_EQ(best.key(), logprobs["tokens"][i]) << "the fake says exactly this";
      EXPECT_EQ(*best, logprobs["token_logprobs"][i]) << "not printed from the same float";
    }
  }
}

TEST(Completions, EchoWithoutGeneration) {
  TestServer server(saying(kReply));
  const Json answer =
      parse(server.post_json("/v1/completions", ask({{"echo", true}, {"max_tokens", 0}})).body);
  EXPECT_EQ(answer["choices"][0]["text"], "The mole");
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["completion_tokens"], 0);
}

TEST(Completions, ExtensionFields) {
  TestServer server(saying(kReply));
  const auto under = test_tokenizer()->encode(" under", {.add_special_tokens = false}).value();
  Json answer =
      parse(server
                .post_json("/v1/completions",
                           ask({{"stop_token_ids", {under[0]}}, {"return_token_ids", true}}))
                .body);
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(answer["choices"][0]["stop_reason"], under[0]);
  EXPECT_EQ(answer["choices"][0]["prompt_token_ids"].size(),
            answer["usage"]["prompt_tokens"].get<size_t>());
  EXPECT_FALSE(answer["choices"][0]["token_ids"].empty());

  answer = parse(
      server.post_json("/v1/completions", ask({{"ignore_eos", true}, {"max_tokens", 40}})).body);
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["completion_tokens"], 40);

  answer = parse(server.post_json("/v1/completions", ask({{"prompt_logprobs", 1}})).body);
  const Json& prompt = answer["choices"][0]["prompt_logprobs"];
  EXPECT_EQ(prompt.size(), answer["usage"]["prompt_tokens"].get<size_t>());
  EXPECT_TRUE(prompt[0].is_null());
  EXPECT_TRUE(prompt[1].begin()->contains("decoded_token"));
}

TEST(Completions, SeedMakesSamplingRepeatable) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  const Json body = {{"prompt", "a"},
                     {"seed", 11},
                     {"max_tokens", 12},
                     {"temperature", 2.0},
                     {"logit_bias", {{"50", -100}}}};
  const Json first = parse(server.post_json("/v1/completions", body).body);
  const Json second = parse(server.post_json("/v1/completions", body).body);
  EXPECT_EQ(first["choices"], second["choices"]);
}

TEST(Completions, DisconnectCancels) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  const std::string request =
      post("/v1/completions",
           Json({{"prompt", "a"}, {"max_tokens", 400}, {"n", 4}, {"stream", true}}).dump());
  for (int i = 0; i < 8; ++i) {
    RawClient client(server.port());
    ASSERT_TRUE(client.send(request));
    ASSERT_TRUE(client.read_more());
    i % 2 == 0 ? client.close() : client.half_close();
    if (i % 2 == 1) client.read_to_end();
  }
  EXPECT_TRUE(server.engine_becomes_idle());
  EXPECT_EQ(server.engine().stats().waiting, 0);
}

TEST(Completions, ErrorsBeforeTheStreamAreStatuses) {
  TestServer server(saying(kReply));
  const RawResponse response =
      server.post_json("/v1/completions", ask({{"stream", true}, {"max_tokens", kTestContext}}));
  EXPECT_EQ(response.status, 400);
  const Json error = parse(response.body)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["type"], "invalid_request_error");
}

TEST(Completions, AbortAfterTheHeadIsAnErrorEventWithoutDone) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  RawClient client(server.port());
  client.send(
      post("/v1/completions",
           Json({{"prompt", "a"}, {"max_tokens", 500}, {"n", 8}, {"stream", true}}).dump()));
  ASSERT_TRUE(client.read_more());
  server.engine().abort_all(absl::UnavailableError("the server is shutting down"));
  const std::string all = client.read_to_end();
  EXPECT_EQ(all.find("[DONE]"), std::string::npos);
  const size_t at = all.find("data: {\"error\":");
  ASSERT_NE(at, std::string::npos) << all.substr(all.size() > 300 ? all.size() - 300 : 0);
  const Json error = parse(all.substr(at + 6, all.find("\n\n", at) - at - 6))["error"];
  for (const char* key : {"message", "type", "param", "code"}) EXPECT_TRUE(error.contains(key));
}

TEST(Completions, QueueFullIs429WithTheTimeToWait) {
  std::promise<void> release;
  const std::shared_future<void> released = release.get_future().share();
  TestServerOptions options;
  options.choose = [released](const std::vector<TokenId>&) {
    released.wait();
    return kEos;
  };
  options.engine = {.max_num_seqs = 1, .max_queued_requests = 1};
  TestServer server(std::move(options));
  // While the model is stuck, one request runs and one waits at most: one of three is refused.
  RawClient clients[] = {RawClient(server.port()), RawClient(server.port()),
                         RawClient(server.port())};
  for (RawClient& client : clients) client.send(post("/v1/completions", R"({"prompt": "a"})"));
  RawClient* refused = wait_for_any({&clients[0], &clients[1], &clients[2]});
  ASSERT_NE(refused, nullptr);
  const auto response = refused->read_response();
  release.set_value();
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 429) << response->body;
  EXPECT_EQ(parse(response->body)["error"]["code"], "rate_limit_exceeded");
  EXPECT_GE(std::stoi(response->headers.at("retry-after-ms")), 1);
  EXPECT_GE(std::stoi(response->headers.at("retry-after")), 1);
  EXPECT_EQ(response->headers.count("x-should-retry"), 0u);
  for (RawClient& client : clients) {
    if (&client == refused) continue;
    const auto other = client.read_response();
    ASSERT_TRUE(other.has_value());
    EXPECT_TRUE(other->status == 200 || other->status == 429) << other->body;
  }
}

}  // namespace
}  // namespace mole::server
