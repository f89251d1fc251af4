// Validation of request bodies: every field by table, at its limit and one past it. A wrong body is
// a 400 that names the field, and never reaches the engine.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "tests/server/test_server.h"

namespace mole::server {
namespace {

struct Case {
  const char* field;  // what `param` must say; empty: null
  Json patch;         // merged into a good body
  int status = 400;
};

constexpr const char* kCompletions = "/v1/completions";
constexpr const char* kChat = "/v1/chat/completions";

Json good_body(const std::string& path) {
  if (path == kCompletions) return {{"prompt", "a"}, {"max_tokens", 1}};
  return {{"messages", {{{"role", "user"}, {"content", "a"}}}}, {"max_tokens", 1}};
}

class Fields : public ::testing::Test {
 protected:
  void check(const std::string& path, const std::vector<Case>& cases) {
    for (const Case& c : cases) {
      Json body = good_body(path);
      body.update(c.patch);
      const RawResponse response = server_.post_json(path, body);
      ASSERT_EQ(response.status, c.status) << c.patch << " gave " << response.body;
      if (c.status == 200) continue;
      const Json error = parse(response.body)["error"];
      for (const char* key : {"message", "type", "param", "code"}) {
        ASSERT_TRUE(error.contains(key)) << c.patch;
      }
      EXPECT_EQ(error["type"], "invalid_request_error") << c.patch;
      if (*c.field == 0) {
        EXPECT_TRUE(error["param"].is_null()) << c.patch << ": " << response.body;
      } else {
        EXPECT_EQ(error["param"], c.field) << c.patch << ": " << response.body;
      }
    }
  }

  TestServer server_;
};

Json repeated(size_t count, const Json& value) {
  Json list = Json::array();
  for (size_t i = 0; i < count; ++i) list.push_back(value);
  return list;
}

const Json kHuge = Json::parse("18446744073709551615");

TEST_F(Fields, NumbersWithRanges) {
  struct Range {
    const char* field;
    Json lowest, highest;            // accepted
    std::vector<Json> wrong_values;  // besides the wrong types
  };
  const std::vector<Range> ranges = {
      {"temperature", 0, 2, {-0.001, 2.001, 1e308, -1}},
      {"top_p", 0.001, 1, {0, 1.001, -1}},
      {"min_p", 0, 1, {-0.001, 1.001}},
      {"presence_penalty", -2, 2, {-2.001, 2.001}},
      {"frequency_penalty", -2, 2, {-2.001, 2.001}},
      {"repetition_penalty", 0.001, 10, {0, 10.001, -1}},
      {"top_k", -1, 2147483647, {-2, 2147483648, 1.5, kHuge}},
      {"n", 1, 8, {0, -1, 9, 2147483648, 1.5, kHuge}},
      {"seed", -9223372036854775807, 9223372036854775807, {1.5, kHuge, 1e300}},
      {"priority", -2147483648, 2147483647, {2147483648, 0.5}},
  };
  for (const char* path : {kCompletions, kChat}) {
    std::vector<Case> cases;
    for (const Range& r : ranges) {
      cases.push_back({"", {{r.field, r.lowest}}, 200});
      cases.push_back({"", {{r.field, r.highest}}, 200});
      cases.push_back({"", {{r.field, nullptr}}, 200});
      for (const Json& wrong : r.wrong_values) cases.push_back({r.field, {{r.field, wrong}}});
      for (const Json& wrong : {Json("NaN"), Json(true), Json::array(), Json::object()}) {
        cases.push_back({r.field, {{r.field, wrong}}});
      }
    }
    check(path, cases);
  }
}

TEST_F(Fields, BothEndpoints) {
  const Json long_stop = std::string(1'024, 's');
  for (const char* path : {kCompletions, kChat}) {
    check(path,
          {
              {"model", {{"model", 5}}},
              {"model", {{"model", "other"}}, 404},
              {"", {{"model", "fake"}}, 200},
              {"", {{"model", "org/fake"}}, 200},
              {"", {{"unknown_field", {{"a", 1}}}}, 200},
              {"stop", {{"stop", 5}}},
              {"stop", {{"stop", {"a", 5}}}},
              {"stop", {{"stop", ""}}},
              {"stop", {{"stop", {"a", "b", "c", "d", "e"}}}},
              {"stop", {{"stop", std::string(1'025, 's')}}},
              {"", {{"stop", {"a", "b", "c", long_stop}}}, 200},
              {"", {{"stop", Json::array()}}, 200},
              {"stream", {{"stream", "yes"}}},
              {"stream_options", {{"stream_options", {{"include_usage", true}}}}},
              {"stream_options", {{"stream", true}, {"stream_options", 5}}},
              {"stream_options", {{"stream", true}, {"stream_options", {{"include_usage", 1}}}}},
              {"logit_bias", {{"logit_bias", {1}}}},
              {"logit_bias", {{"logit_bias", {{"x", 1}}}}},
              {"logit_bias", {{"logit_bias", {{"-1", 1}}}}},
              {"logit_bias", {{"logit_bias", {{"300", 1}}}}},
              {"logit_bias", {{"logit_bias", {{"5", 100.5}}}}},
              {"logit_bias", {{"logit_bias", {{"5", "1"}}}}},
              {"", {{"logit_bias", {{"0", -100}, {"299", 100}}}}, 200},
              {"min_tokens", {{"min_tokens", -1}}},
              {"", {{"min_tokens", 2}}},  // above max_tokens: the engine says so
              {"", {{"min_tokens", 1}}, 200},
              {"ignore_eos", {{"ignore_eos", 1}}},
              {"stop_token_ids", {{"stop_token_ids", 5}}},
              {"stop_token_ids", {{"stop_token_ids", {300}}}},
              {"stop_token_ids", {{"stop_token_ids", {-1}}}},
              {"stop_token_ids", {{"stop_token_ids", {1.5}}}},
              {"stop_token_ids", {{"stop_token_ids", repeated(129, 5)}}},
              {"", {{"stop_token_ids", {0, 299}}}, 200},
              {"include_stop_str_in_output", {{"include_stop_str_in_output", "x"}}},
              {"skip_special_tokens", {{"skip_special_tokens", 0}}},
              {"cache_salt", {{"cache_salt", 5}}},
              {"cache_salt", {{"cache_salt", std::string(1'025, 's')}}},
              {"", {{"cache_salt", std::string(1'024, 's')}}, 200},
              {"prompt_logprobs", {{"prompt_logprobs", 21}}},
              {"prompt_logprobs", {{"prompt_logprobs", 1}, {"stream", true}}},
              {"", {{"prompt_logprobs", 20}}, 200},
              {"best_of", {{"best_of", 2}}},
              {"", {{"best_of", 2}, {"n", 2}}, 200},
              {"use_beam_search", {{"use_beam_search", true}}},
              {"", {{"use_beam_search", false}}, 200},
          });
  }
}

TEST_F(Fields, Completions) {
  check(kCompletions, {
                          {"prompt", {{"prompt", nullptr}}},
                          {"prompt", {{"prompt", 5}}},
                          {"prompt", {{"prompt", Json::object()}}},
                          {"prompt", {{"prompt", Json::array()}}},
                          {"prompt", {{"prompt", {"a", 5}}}},
                          {"prompt", {{"prompt", {{"a"}}}}},
                          {"prompt", {{"prompt", {1.5}}}},
                          {"prompt", {{"prompt", {-1}}}},
                          {"prompt", {{"prompt", {300}}}},
                          {"prompt", {{"prompt", {kHuge}}}},
                          {"prompt", {{"prompt", {Json::array()}}}},
                          {"prompt", {{"prompt", repeated(129, "a")}}},
                          {"prompt", {{"prompt", ""}, {"add_special_tokens", false}}},
                          {"", {{"prompt", {0, 299}}}, 200},
                          {"n", {{"prompt", repeated(65, "a")}, {"n", 2}}},
                          {"", {{"prompt", repeated(64, "a")}, {"n", 2}}, 200},
                          {"max_tokens", {{"max_tokens", -1}}},
                          {"max_tokens", {{"max_tokens", 1.5}}},
                          {"max_tokens", {{"max_tokens", 2147483648}}},
                          {"", {{"max_tokens", 0}}, 200},
                          {"", {{"max_tokens", kTestContext}}},
                          {"", {{"max_tokens", kTestContext - 2}}, 200},  // BOS and one letter
                          {"echo", {{"echo", "yes"}}},
                          {"logprobs", {{"logprobs", true}}},
                          {"logprobs", {{"logprobs", -1}}},
                          {"logprobs", {{"logprobs", 21}}},
                          {"", {{"logprobs", 20}}, 200},
                          {"suffix", {{"suffix", "end"}}},
                          {"", {{"suffix", nullptr}}, 200},
                          {"response_format", {{"response_format", {{"type", "json_object"}}}}},
                      });
}

TEST_F(Fields, Chat) {
  const auto message = [](const Json& m) { return Json{{"messages", {m}}}; };
  const Json user = {{"role", "user"}, {"content", "a"}};
  check(kChat,
        {
            {"messages", {{"messages", nullptr}}},
            {"messages", {{"messages", "a"}}},
            {"messages", {{"messages", Json::array()}}},
            {"messages", message("a")},
            {"messages", message({{"content", "a"}})},
            {"messages", message({{"role", "boss"}, {"content", "a"}})},
            {"messages", message({{"role", 5}, {"content", "a"}})},
            {"messages", message({{"role", "user"}})},
            {"messages", message({{"role", "user"}, {"content", 5}})},
            {"messages", message({{"role", "user"}, {"content", {{{"type", "image_url"}}}}})},
            {"messages", message({{"role", "user"}, {"content", {{{"type", "text"}}}}})},
            {"messages", message({{"role", "user"}, {"content", {"a"}}})},
            {"messages", {{"messages", repeated(2'049, user)}}},
            {"max_tokens", {{"max_tokens", 0}}},
            {"max_completion_tokens", {{"max_completion_tokens", 0}}},
            {"max_completion_tokens", {{"max_completion_tokens", "5"}}},
            {"logprobs", {{"logprobs", 5}}},
            {"top_logprobs", {{"top_logprobs", 5}}},
            {"top_logprobs", {{"logprobs", true}, {"top_logprobs", 21}}},
            {"", {{"logprobs", true}, {"top_logprobs", 20}}, 200},
            {"", {{"logprobs", true}}, 200},
            {"tools", {{"tools", {{{"type", "function"}}}}}},
            {"", {{"tools", Json::array()}}, 200},
            {"tool_choice", {{"tool_choice", "required"}}},
            {"", {{"tool_choice", "none"}}, 200},
            {"functions", {{"functions", {{{"name", "f"}}}}}},
            {"response_format", {{"response_format", {{"type", "json_object"}}}}},
            {"", {{"response_format", {{"type", "text"}}}}, 200},
            {"modalities", {{"modalities", {"audio"}}}},
            {"chat_template", {{"chat_template", "x"}}},
            {"chat_template_kwargs", {{"chat_template_kwargs", 5}}},
            {"", {{"chat_template_kwargs", {{"a", 1}}}}, 200},
        });
}

TEST_F(Fields, BodiesThatAreNoObject) {
  const std::string deep = std::string(100'000, '[');
  const std::string nested_64 =
      R"({"prompt":"a","max_tokens":1,"x":)" + std::string(63, '[') + std::string(63, ']') + "}";
  const std::string nested_65 =
      R"({"prompt":"a","max_tokens":1,"x":)" + std::string(64, '[') + std::string(64, ']') + "}";
  std::string keys = R"({"prompt":"a","max_tokens":1)";
  for (int i = 0; i < 1'022; ++i) keys += ",\"k" + std::to_string(i) + "\":0";
  const auto status = [&](const std::string& body) {
    return exchange(server_.port(), post(kCompletions, body)).status;
  };
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("5"), std::string("null"),
        std::string("\"a\""), std::string("{}x"), std::string("{'prompt':'a'}"),
        std::string("{\"prompt\":\"\xff\"}"), std::string("{\"prompt\":\"\\ud800\"}"),
        std::string("{\"prompt\":\"a\",\"prompt\":\"b\"}"), std::string("{\"prompt\":\"a\",}"),
        std::string("{\"prompt\":\"a\",\"temperature\":1e400}"),
        std::string("{\"prompt\":\"a\",\"temperature\":NaN}"), deep, nested_65, keys + ",\"z\":0}",
        std::string("{\"prompt\":\"a") + '\0' + "\"}"}) {
    EXPECT_EQ(status(body), 400) << body.substr(0, 80);
  }
  EXPECT_EQ(status(nested_64), 200);
  EXPECT_EQ(status(keys + "}"), 200);
}

// Good bodies with random changes: answered or refused, never an error of ours, and the server
// lives.
TEST_F(Fields, MutatedBodiesAreAnsweredOrRefused) {
  const char* given = std::getenv("MOLE_TEST_SEED");
  const uint64_t seed = given != nullptr ? std::stoull(given) : 1;
  SCOPED_TRACE("MOLE_TEST_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  const std::string alphabet = "{}[]\",:0129-.eEtrufalsn\\ \x80\xc3\xa4<|>";
  Json full = good_body(kChat);
  full.update({{"n", 2}, {"stop", {"a"}}, {"logprobs", true}, {"top_logprobs", 1}, {"seed", 1}});
  for (const char* path : {kCompletions, kChat}) {
    for (int round = 0; round < 150; ++round) {
      std::string body = (path == kChat ? full : good_body(path)).dump();
      for (uint64_t changes = random() % 3 + 1; changes > 0; --changes) {
        const size_t at = random() % body.size();
        const char c = alphabet[random() % alphabet.size()];
        random() % 2 == 0 ? (void)(body[at] = c) : (void)body.insert(at, 1, c);
      }
      const int status = exchange(server_.port(), post(path, body)).status;
      EXPECT_TRUE(status == 200 || status == 400 || status == 404) << status << " for " << body;
    }
  }
  EXPECT_EQ(server_.post_json(kCompletions, good_body(kCompletions)).status, 200);
}

TEST_F(Fields, ContentTypeAndEncoding) {
  const auto status = [&](const std::string& fields) {
    const std::string body = R"({"prompt":"a","max_tokens":1})";
    return exchange(server_.port(), "POST /v1/completions HTTP/1.1\r\nHost: a\r\n" + fields +
                                        "Content-Length: " + std::to_string(body.size()) +
                                        "\r\n\r\n" + body)
        .status;
  };
  EXPECT_EQ(status("Content-Type: application/json\r\n"), 200);
  EXPECT_EQ(status("Content-Type: Application/JSON ; charset=utf-8\r\n"), 200);
  EXPECT_EQ(status("Content-Type: text/plain\r\n"), 415);
  EXPECT_EQ(status("Content-Type: application/jsonx\r\n"), 415);
  EXPECT_EQ(status(""), 415);
  EXPECT_EQ(status("Content-Type: application/json\r\nContent-Encoding: gzip\r\n"), 415);
}

TEST_F(Fields, Detokenize) {
  const auto status = [&](const Json& body) {
    return server_.post_json("/detokenize", body).status;
  };
  EXPECT_EQ(status({{"tokens", {0, 299}}}), 200);
  EXPECT_EQ(status({{"tokens", {300}}}), 400);
  EXPECT_EQ(status({{"tokens", {-1}}}), 400);
  EXPECT_EQ(status({{"tokens", "a"}}), 400);
  EXPECT_EQ(status(Json::object()), 400);
}

}  // namespace
}  // namespace mole::server
