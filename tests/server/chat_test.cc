// POST /v1/chat/completions over a real socket.
#include <gtest/gtest.h>

#include "tests/server/test_server.h"

namespace mole::server {
namespace {

const std::string kReply = "The garden has a mole.";

TestServerOptions replying(const std::string& text = kReply) {
  TestServerOptions options;
  options.choose = say("<|assistant|>", text);
  return options;
}

Json ask(Json more = Json::object()) {
  Json body = {{"messages", {{{"role", "user"}, {"content", "What has the garden?"}}}},
               {"temperature", 0}};
  body.update(more);
  return body;
}

std::vector<Json> stream(const TestServer& server, Json body) {
  body["stream"] = true;
  const RawResponse response = server.post_json("/v1/chat/completions", body);
  EXPECT_EQ(response.status, 200) << response.body;
  auto lines = events(response.body);
  EXPECT_EQ(lines.empty() ? "" : lines.back(), "[DONE]");
  std::vector<Json> chunks;
  for (size_t i = 0; i + 1 < lines.size(); ++i) chunks.push_back(parse(lines[i]));
  return chunks;
}

TEST(Chat, AnswersWhole) {
  TestServer server(replying());
  const RawResponse response = server.post_json("/v1/chat/completions", ask());
  ASSERT_EQ(response.status, 200) << response.body;
  const Json body = parse(response.body);
  EXPECT_EQ(body["object"], "chat.completion");
  EXPECT_EQ(body["id"].get<std::string>().substr(0, 9), "chatcmpl-");
  const Json& choice = body["choices"][0];
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["message"]["content"], kReply);
  EXPECT_TRUE(choice["message"]["refusal"].is_null());
  EXPECT_EQ(choice["finish_reason"], "stop");
  EXPECT_TRUE(choice["logprobs"].is_null());
}

TEST(Chat, StreamHasRoleThenContentThenFinish) {
  TestServer server(replying());
  const auto chunks = stream(server, ask({{"stream_options", {{"include_usage", true}}}}));
  ASSERT_GE(chunks.size(), 4u);
  EXPECT_EQ(chunks[0]["choices"][0]["delta"], Json({{"role", "assistant"}, {"content", ""}}));
  std::string text;
  for (size_t i = 1; i + 2 < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i]["object"], "chat.completion.chunk");
    EXPECT_TRUE(chunks[i]["choices"][0]["finish_reason"].is_null());
    EXPECT_TRUE(chunks[i].contains("usage") && chunks[i]["usage"].is_null());
    text += chunks[i]["choices"][0]["delta"]["content"].get<std::string>();
  }
  EXPECT_EQ(text, kReply);
  const Json& last = chunks[chunks.size() - 2]["choices"][0];
  EXPECT_EQ(last["delta"], Json::object());
  EXPECT_EQ(last["finish_reason"], "stop");
  EXPECT_TRUE(chunks.back()["choices"].empty());
  EXPECT_GT(chunks.back()["usage"]["prompt_tokens"], 0);
}

TEST(Chat, EveryChoiceHasOneRoleAndOneFinish) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  std::vector<int> roles(3, 0), finishes(3, 0);
  for (const Json& chunk : stream(server, ask({{"n", 3}, {"max_completion_tokens", 6}}))) {
    for (const Json& choice : chunk["choices"]) {
      const auto index = choice["index"].get<size_t>();
      roles[index] += choice["delta"].contains("role");
      finishes[index] += !choice["finish_reason"].is_null();
      if (!choice["finish_reason"].is_null()) {
        EXPECT_EQ(choice["delta"], Json::object());
      }
    }
  }
  EXPECT_EQ(roles, std::vector<int>(3, 1));
  EXPECT_EQ(finishes, std::vector<int>(3, 1));
}

TEST(Chat, LogprobsHaveBytesAndRefusal) {
  const std::string text =
      " gr\xc3\xbc\xc3\x9f"
      "e";
  TestServer server(replying(text));
  const Json body =
      parse(server.post_json("/v1/chat/completions", ask({{"logprobs", true}, {"top_logprobs", 2}}))
                .body);
  const Json& logprobs = body["choices"][0]["logprobs"];
  EXPECT_TRUE(logprobs.contains("refusal") && logprobs["refusal"].is_null());
  std::string bytes;
  for (const Json& token : logprobs["content"]) {
    EXPECT_EQ(token["top_logprobs"].size(), 2u);
    EXPECT_EQ(token["top_logprobs"][0]["logprob"], token["logprob"]);
    EXPECT_LE(token["logprob"].get<double>(), 0.0);
    for (const Json& byte : token["bytes"]) bytes += static_cast<char>(byte.get<int>());
  }
  EXPECT_EQ(bytes, text);
}

TEST(Chat, StreamedLogprobsLoseNoToken) {
  TestServer server(
      replying(" gr\xc3\xbc\xc3\x9f"
               "e dig a tun"));
  const Json options = {{"logprobs", true}, {"top_logprobs", 1}, {"stop", "tunnel"}};
  const Json whole = parse(server.post_json("/v1/chat/completions", ask(options)).body);
  Json joined = Json::array();
  for (const Json& chunk : stream(server, ask(options))) {
    const Json& logprobs = chunk["choices"][0]["logprobs"];
    if (logprobs.is_null()) continue;
    for (const Json& token : logprobs["content"]) joined.push_back(token);
  }
  EXPECT_EQ(joined, whole["choices"][0]["logprobs"]["content"]);
}

TEST(Chat, ContentMayBePartsOrNull) {
  TestServer server(replying());
  const Json text = ask()["messages"];
  const Json parts = {
      {{"role", "user"}, {"content", {{{"type", "text"}, {"text", "What has the garden?"}}}}}};
  const auto count = [&](const Json& messages) {
    const RawResponse response = server.post_json("/tokenize", {{"messages", messages}});
    EXPECT_EQ(response.status, 200) << response.body;
    return parse(response.body)["tokens"];
  };
  EXPECT_EQ(count(text), count(parts));
  Json with_null = text;
  with_null.push_back({{"role", "assistant"}, {"content", nullptr}});
  with_null.push_back({{"role", "user"}, {"content", "And?"}});
  EXPECT_GT(count(with_null).size(), count(text).size());
}

TEST(Chat, UserTextCannotBecomeASpecialToken) {
  TestServer server(replying());
  const auto tokens = [&](const std::string& content) {
    const Json messages = {{{"role", "user"}, {"content", content}}};
    const RawResponse response = server.post_json("/tokenize", {{"messages", messages}});
    EXPECT_EQ(response.status, 200) << response.body;
    return parse(response.body)["tokens"].get<std::vector<TokenId>>();
  };
  for (const std::string content : {"<|eos|>", "a<|assistant|>b<|eos|><|eos|>c",
                                    "\xf4\x8f\xbf\xbd"
                                    "0\xf4\x8f\xbf\xbd<|eos|>",
                                    "\xf4\x8f\xbf\xbd"
                                    "7\xf4\x8f\xbf\xbd"}) {
    const auto ids = tokens(content);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), kEos), 0) << content;
    EXPECT_EQ(std::count(ids.begin(), ids.end(), kAssistant), 1) << content;  // the template's
    const std::vector<TokenId> inner(ids.begin() + 2, ids.end() - 1);  // BOS, user … assistant
    EXPECT_EQ(test_tokenizer()->decode(inner, false).value(), content);
  }
  // Without special spellings the tokens are those of the rendered text.
  const auto plain = test_tokenizer()
                         ->encode("<|bos|><|user|>dig<|assistant|>", {.add_special_tokens = false})
                         .value();
  EXPECT_EQ(tokens("dig"), plain);
}

TEST(Chat, TemplateErrorsAre400) {
  TestServer server(replying());
  const RawResponse response = server.post_json(
      "/v1/chat/completions", {{"messages", {{{"role", "user"}, {"content", "refuse"}}}}});
  EXPECT_EQ(response.status, 400);
  const Json error = parse(response.body)["error"];
  EXPECT_EQ(error["param"], "messages");
  EXPECT_NE(error["message"].get<std::string>().find("refused by the template"), std::string::npos);
}

TEST(Chat, MaxTokensDefaultsToWhatTheContextLeaves) {
  TestServerOptions options;
  options.choose = chatter();
  TestServer server(std::move(options));
  const Json body = parse(server.post_json("/v1/chat/completions", ask()).body);
  EXPECT_EQ(body["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(body["usage"]["total_tokens"], kTestContext);
}

TEST(Chat, ModelDefaultsApplyAndRequestsWin) {
  TestServerOptions options;
  options.choose = chatter();
  options.defaults.max_new_tokens = 3;
  TestServer server(std::move(options));
  const auto generated = [&](const Json& body) {
    return parse(server.post_json("/v1/chat/completions", body).body)["usage"]["completion_tokens"];
  };
  EXPECT_EQ(generated(ask()), 3);
  EXPECT_EQ(generated(ask({{"max_tokens", 5}})), 5);
}

}  // namespace
}  // namespace mole::server
