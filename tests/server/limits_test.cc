// The bounds that are neither a field's (fields_test) nor a connection's (http_session_test) alone:
// each at its limit and one past it, with a setting other than the default, and what the metrics
// say. At the end the page that lists all limits is held against the code.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <future>
#include <map>
#include <memory>
#include <regex>
#include <set>
#include <sstream>
#include <thread>

#include "base/options.h"
#include "server/settings.h"
#include "tests/server/test_server.h"

namespace mole::server {
namespace {

TestServerOptions with(const std::function<void(ServerLimits&)>& change) {
  TestServerOptions options;
  change(options.app.limits);
  return options;
}

/// What the metrics count of refusals by the setting `limit`.
int refusals(TestServer& server, const std::string& limit) {
  const std::string all = server.app().metrics().expose();
  const std::string line = "mole_limit_refusals_total{limit=\"" + limit + "\"} ";
  const size_t at = all.find(line);
  return at == std::string::npos ? 0 : std::stoi(all.substr(at + line.size()));
}

struct Bound {
  const char* setting;
  std::function<void(ServerLimits&)> lower;
  const char* path;
  Json at_limit;
  Json one_past;
};

Json numbers(size_t count) {
  Json list = Json::array();
  for (size_t i = 0; i < count; ++i) list.push_back(0);
  return list;
}

Json completion(const Json& more) {
  Json body = {{"prompt", "a"}, {"max_tokens", 1}};
  body.update(more);
  return body;
}

Json nested(int depth) {
  Json value = 0;
  for (int i = 0; i < depth; ++i) value = Json::array({value});
  return value;
}

Json messages(size_t count) {
  Json list = Json::array();
  for (size_t i = 0; i < count; ++i) list.push_back({{"role", "user"}, {"content", "a"}});
  return {{"messages", list}, {"max_tokens", 1}};
}

TEST(Limits, OfABodyAtTheSettingAndOnePast) {
  constexpr const char* kCompletions = "/v1/completions";
  const std::vector<Bound> bounds = {
      // The body is one level, its three keys and their values are seven nodes.
      {"json-depth-max", [](ServerLimits& l) { l.json_depth_max = 5; }, kCompletions,
       completion({{"x", nested(4)}}), completion({{"x", nested(5)}})},
      {"json-nodes-max", [](ServerLimits& l) { l.json_nodes_max = 30; }, kCompletions,
       completion({{"x", numbers(23)}}), completion({{"x", numbers(24)}})},
      {"json-object-keys-max", [](ServerLimits& l) { l.json_object_keys_max = 3; }, kCompletions,
       completion({{"x", 1}}), completion({{"x", 1}, {"y", 1}})},
      {"json-nodes-max",
       [](ServerLimits& l) { l.json_nodes_max = 10; },
       "/detokenize",
       {{"tokens", numbers(7)}},
       {{"tokens", numbers(8)}}},
      {"messages-max", [](ServerLimits& l) { l.messages_max = 3; }, "/v1/chat/completions",
       messages(3), messages(4)},
      {"prompts-max", [](ServerLimits& l) { l.prompts_max = 2; }, kCompletions,
       completion({{"prompt", {"a", "b"}}}), completion({{"prompt", {"a", "b", "c"}}})},
      {"stop-max", [](ServerLimits& l) { l.stop_max = 2; }, kCompletions,
       completion({{"stop", {"x", "y"}}}), completion({{"stop", {"x", "y", "z"}}})},
      {"stop-bytes-max", [](ServerLimits& l) { l.stop_bytes_max = 6; }, kCompletions,
       completion({{"stop", "tunnel"}}), completion({{"stop", "tunnels"}})},
      {"stop-token-ids-max", [](ServerLimits& l) { l.stop_token_ids_max = 2; }, kCompletions,
       completion({{"stop_token_ids", {7, 8}}}), completion({{"stop_token_ids", {7, 8, 9}}})},
      {"logit-bias-max", [](ServerLimits& l) { l.logit_bias_max = 1; }, kCompletions,
       completion({{"logit_bias", {{"7", 1}}}}),
       completion({{"logit_bias", {{"7", 1}, {"8", 1}}}})},
      {"cache-salt-bytes-max", [](ServerLimits& l) { l.cache_salt_bytes_max = 3; }, kCompletions,
       completion({{"cache_salt", "abc"}}), completion({{"cache_salt", "abcd"}})},
      {"max-model-len", [](ServerLimits&) {}, kCompletions,  // BOS, one letter and the output
       completion({{"max_tokens", kTestContext - 2}}),
       completion({{"max_tokens", kTestContext - 1}})},
  };
  for (const Bound& bound : bounds) {
    SCOPED_TRACE(bound.setting);
    TestServer server(with(bound.lower));
    const RawResponse accepted = server.post_json(bound.path, bound.at_limit);
    EXPECT_EQ(accepted.status, 200) << accepted.body;
    EXPECT_EQ(refusals(server, bound.setting), 0);
    const RawResponse refused = server.post_json(bound.path, bound.one_past);
    EXPECT_EQ(refused.status, 400) << refused.body;
    EXPECT_EQ(refusals(server, bound.setting), 1);
  }
}

TEST(Limits, LogprobsAndChoicesFollowTheirSettings) {
  TestServer server(with([](ServerLimits& l) {
    l.logprobs_max = 2;
    l.n_max = 2;
  }));
  const auto status = [&](const Json& more) {
    return server.post_json("/v1/completions", completion(more)).status;
  };
  EXPECT_EQ(status({{"logprobs", 2}}), 200);
  EXPECT_EQ(status({{"logprobs", 3}}), 400);
  EXPECT_EQ(status({{"n", 2}}), 200);
  EXPECT_EQ(status({{"n", 3}}), 400);
}

TEST(Limits, TemplateFuelAtTheSettingAndOneShort) {
  const Json conversation = messages(2);
  const std::string text = conversation["messages"].dump();
  int64_t fuel = 1;
  while (fuel < 100'000 && !test_chat_template()
                                ->render_json({.messages = text, .add_generation_prompt = true},
                                              {.fuel = static_cast<uint64_t>(fuel)})
                                .ok()) {
    ++fuel;
  }
  for (const bool enough : {true, false}) {
    TestServer server(with([&](ServerLimits& l) { l.template_fuel = enough ? fuel : fuel - 1; }));
    const RawResponse response = server.post_json("/v1/chat/completions", conversation);
    EXPECT_EQ(response.status, enough ? 200 : 400) << response.body;
    EXPECT_EQ(refusals(server, "template-fuel"), enough ? 0 : 1);
    if (enough) continue;
    const Json error = parse(response.body)["error"];
    EXPECT_EQ(error["param"], "messages");
    EXPECT_NE(error["message"].get<std::string>().find("longer than"), std::string::npos);
  }
}

TEST(Limits, TokenizingQueueAtTheSettingAndOnePast) {
  TestServer server(with([](ServerLimits& l) { l.tokenizer_queue_max = 2; }));
  std::promise<void> begun, release;
  // The one worker is kept busy; what comes now waits in the queue.
  ASSERT_TRUE(server.app().try_run([&begun, released = release.get_future().share()] {
    begun.set_value();
    released.wait();
  }));
  begun.get_future().wait();
  const std::string request = post("/v1/completions", completion(Json::object()).dump());
  std::vector<std::unique_ptr<RawClient>> clients;
  std::vector<RawClient*> all;
  for (int i = 0; i < 3; ++i) {  // in whatever order they are read: two wait, one is one too many
    clients.push_back(std::make_unique<RawClient>(server.port()));
    clients.back()->send(request);
    all.push_back(clients.back().get());
  }
  RawClient* refused = wait_for_any(all);
  ASSERT_NE(refused, nullptr);
  const auto response = refused->read_response();
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->status, 429) << response->body;
  EXPECT_EQ(response->headers.count("retry-after-ms"), 1u);
  EXPECT_EQ(refusals(server, "tokenizer-queue-max"), 1);
  EXPECT_NE(server.app().metrics().expose().find("mole_limit_tokenizer_queue 2\n"),
            std::string::npos);
  release.set_value();
  for (RawClient* client : all) {
    if (client == refused) continue;
    const auto answer = client->read_response();
    ASSERT_TRUE(answer.has_value());
    EXPECT_EQ(answer->status, 200) << answer->body;
  }
}

/// Waits for the connection to be gone; false if it stays for too long.
bool connection_ends(TestServer& server) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (server.http().connections() > 0) {
    if (std::chrono::steady_clock::now() > end) return false;
    std::this_thread::yield();
  }
  return true;
}

const std::string kRefused = "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n";

TEST(Limits, LingerBytesAtTheSettingAndOnePast) {
  constexpr int64_t kBytesMax = 1'000, kLingerMs = 200;
  for (const bool within : {true, false}) {
    SCOPED_TRACE(within);
    TestServer server(with([&](ServerLimits& l) {
      l.linger_bytes_max = kBytesMax;
      l.linger_ms = within ? 3'600'000 : kLingerMs;
    }));
    const auto begin = std::chrono::steady_clock::now();
    RawClient client(server.port());
    client.send(kRefused);
    EXPECT_EQ(client.read_response()->status, 413);
    EXPECT_EQ(client.read_to_end(), "") << "the server lingers once it has closed its direction";
    // Below the bound the server reads on and sees our end; at it, it reads no more and must wait
    // for its own time to pass.
    client.send(std::string(within ? kBytesMax - 1 : kBytesMax, 'x'));
    client.close();
    EXPECT_TRUE(connection_ends(server));
    if (!within) {
      EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(kLingerMs));
    }
  }
}

TEST(Limits, LingerTimeEndsAConnectionThatStays) {
  TestServer server(with([](ServerLimits& l) { l.linger_ms = 20; }));
  RawClient client(server.port());
  client.send(kRefused);
  EXPECT_EQ(client.read_response()->status, 413);
  EXPECT_EQ(client.read_to_end(), "") << "our direction is closed at once";
  EXPECT_TRUE(connection_ends(server));
}

// ---- docs/limits.md

struct Row {
  std::string setting, standard, metric, test;
};

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> found;
  std::istringstream in(line.substr(1));
  for (std::string cell; std::getline(in, cell, '|');) {
    const size_t first = cell.find_first_not_of(" `");
    const size_t last = cell.find_last_not_of(" `");
    found.push_back(first == std::string::npos ? "" : cell.substr(first, last - first + 1));
  }
  return found;
}

std::string contents(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

/// The rows of docs/limits.md that are about a flag.
std::vector<Row> rows() {
  std::vector<Row> found;
  std::istringstream page(contents("docs/limits.md"));
  for (std::string line; std::getline(page, line);) {
    if (line.rfind("| `--", 0) != 0) continue;
    const auto c = cells(line);
    if (c.size() < 5) {
      ADD_FAILURE() << "too few columns: " << line;
      continue;
    }
    found.push_back({c[0].substr(2), c[1], c[3], c[4]});
  }
  return found;
}

std::map<std::string, std::string> defaults_of(const std::string& yaml) {
  std::map<std::string, std::string> values;
  std::istringstream in(yaml);
  for (std::string line; std::getline(in, line);) {
    const size_t colon = line.find(": ");
    if (colon != std::string::npos) values[line.substr(0, colon)] = line.substr(colon + 2);
  }
  return values;
}

TEST(LimitsPage, NamesEveryLimitWithItsDefault) {
  Settings settings;
  Options all("test", "");
  declare_options(all, &settings);
  ServerLimits limits;
  Options server_only("test", "");
  declare_options(server_only, &limits);
  const auto defaults = defaults_of(all.to_yaml());
  std::set<std::string> documented;
  for (const Row& row : rows()) {
    ASSERT_EQ(defaults.count(row.setting), 1u) << "no such flag: --" << row.setting;
    EXPECT_EQ(row.standard, defaults.at(row.setting)) << "--" << row.setting;
    documented.insert(row.setting);
  }
  for (const auto& [name, value] : defaults_of(server_only.to_yaml())) {
    EXPECT_EQ(documented.count(name), 1u) << "docs/limits.md has no row for --" << name;
  }
}

TEST(LimitsPage, TestsAndMetricsExist) {
  std::string tests;
  for (const auto& entry : std::filesystem::recursive_directory_iterator("tests")) {
    if (entry.path().extension() == ".cc") tests += contents(entry.path());
  }
  const std::string metrics = contents("docs/metrics.md");
  const std::regex test_name("(\\w+)\\.(\\w+)"), metric_name("mole_\\w+");
  const std::sregex_iterator end;
  for (const Row& row : rows()) {
    SCOPED_TRACE("--" + row.setting);
    int named = 0;
    for (std::sregex_iterator it(row.test.begin(), row.test.end(), test_name); it != end; ++it) {
      const std::regex definition("TEST(_F)?\\(" + it->str(1) + ",\\s*" + it->str(2) + "\\)");
      EXPECT_TRUE(std::regex_search(tests, definition)) << it->str() << " is no test";
      ++named;
    }
    EXPECT_GT(named, 0) << "no test named";
    for (std::sregex_iterator it(row.metric.begin(), row.metric.end(), metric_name); it != end;
         ++it) {
      EXPECT_NE(metrics.find("`" + it->str() + "`"), std::string::npos)
          << it->str() << " is not in docs/metrics.md";
    }
  }
}

}  // namespace
}  // namespace mole::server
