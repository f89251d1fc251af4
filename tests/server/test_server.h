// The whole server in this process: real sockets, sessions, handlers, engine and tokenizer; only
// the model is a fake.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/app.h"
#include "server/http_server.h"
#include "server/routes.h"
#include "tests/server/fake_model.h"
#include "tests/server/raw_client.h"
#include "text/tokenizer.h"

namespace mole::server {

inline constexpr TokenId kBos = 0, kEos = 1, kUser = 2, kAssistant = 3;
inline constexpr int32_t kFirstTextToken = 4;
inline constexpr int32_t kTestContext = 512;

/// A byte-level BPE tokenizer of 300 tokens, trained once per process on a few sentences.
std::shared_ptr<const text::Tokenizer> test_tokenizer();
/// A chat template of one line per message.
std::shared_ptr<const text::ChatTemplate> test_chat_template();

struct TestServerOptions {
  AppOptions app;
  runtime::EngineOptions engine{.max_num_seqs = 16};
  ChooseToken choose;  // default: hashed_token
  bool loaded = true;  // false: the server has no model yet
  SamplingDefaults defaults;
};

class TestServer {
 public:
  explicit TestServer(TestServerOptions options = {});
  ~TestServer();

  uint16_t port() const { return server_->port(); }
  App& app() { return *app_; }
  HttpServer& http() { return *server_; }
  runtime::Engine& engine() { return *engine_; }
  void load();

  RawResponse post_json(std::string_view path, const Json& body) const {
    return exchange(port(), post(path, body.dump()));
  }
  /// Waits for the engine to have nothing left; false if it keeps something.
  bool engine_becomes_idle() const;

 private:
  TestServerOptions options_;
  SteadyClock clock_;
  Metrics metrics_;
  std::unique_ptr<HttpServer> server_;  // goes after the app, see http_server.h
  std::unique_ptr<App> app_;
  std::unique_ptr<Router> router_;
  runtime::Engine* engine_ = nullptr;
};

/// Says `text`, token by token, then EOS; then (with ignore_eos) hashed tokens. The reply begins
/// after the last token of a prompt that ends in `marker`.
ChooseToken say(const std::string& marker, const std::string& text);

/// A fake model's endless chatter: never EOS.
ChooseToken chatter();

Json parse(const std::string& text);

}  // namespace mole::server
