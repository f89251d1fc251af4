#include "tests/server/test_server.h"

#include <unistd.h>

#include <chrono>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include "text/tokenizer_trainer.h"

namespace mole::server {
namespace {

constexpr int32_t kVocabSize = 300;

std::filesystem::path temporary_folder() {
  const auto folder =
      std::filesystem::temp_directory_path() / ("mole_server_test_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  return folder;
}

}  // namespace

std::shared_ptr<const text::Tokenizer> test_tokenizer() {
  static const auto tokenizer = [] {
    const auto folder = temporary_folder();
    const auto source = folder / "text.txt";
    std::ofstream(source) << "The mole digs a tunnel under the garden. A mole has small eyes and "
                             "large hands.\nThe garden has a tunnel, and the tunnel has a mole. "
                             "Grüße aus dem Garten: naïve moles dig.\n";
    const text::TokenizerTrainOptions options{
        .vocab_size = kVocabSize,
        .min_frequency = 1,
        .special_tokens = {"<|bos|>", "<|eos|>", "<|user|>", "<|assistant|>"},
        .bos_token = "<|bos|>"};
    const Status trained = text::train_tokenizer({source}, options, folder / "tokenizer.json");
    EXPECT_TRUE(trained.ok()) << trained;
    auto loaded = text::Tokenizer::load(folder);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_EQ((*loaded)->vocab_size(), kVocabSize);
    std::filesystem::remove_all(folder);
    return *loaded;
  }();
  return tokenizer;
}

std::shared_ptr<const text::ChatTemplate> test_chat_template() {
  const Json special = {{"bos_token", "<|bos|>"}, {"eos_token", "<|eos|>"}};
  auto parsed = text::ChatTemplate::parse(
      "{{ bos_token }}{% for m in messages %}{% if m.role == 'refuse' or m.content == 'refuse' %}"
      "{{ raise_exception('refused by the template') }}{% endif %}"
      "{% if m.role == 'assistant' %}<|assistant|>{{ m.content }}{{ eos_token }}"
      "{% else %}<|user|>{{ m.content }}{% endif %}{% endfor %}"
      "{% if add_generation_prompt %}<|assistant|>{% endif %}",
      special);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return *parsed;
}

TestServer::TestServer(TestServerOptions options) : options_(std::move(options)) {
  app_ = std::make_unique<App>(options_.app, &metrics_, &clock_);
  router_ = std::make_unique<Router>(app_.get());
  auto server = HttpServer::listen({.port = 0, .limits = options_.app.limits}, router_.get(),
                                   &metrics_, &clock_);
  EXPECT_TRUE(server.ok()) << server.status();
  server_ = *std::move(server);
  if (options_.loaded) load();
  server_->start();
}

TestServer::~TestServer() { server_->stop(); }

void TestServer::load() {
  auto served = std::make_shared<ServedModel>();
  served->names = {"fake", "org/fake"};
  served->created = 1;
  served->tokenizer = test_tokenizer();
  served->chat_template = test_chat_template();
  served->defaults = options_.defaults;
  const int32_t vocab_size = served->tokenizer->vocab_size();
  ChooseToken choose = options_.choose;
  if (choose == nullptr) {
    choose = [vocab_size](const std::vector<TokenId>& context) {
      return hashed_token(context, kFirstTextToken, vocab_size);
    };
  }
  auto engine =
      runtime::Engine::create(std::make_unique<FakeModel>(vocab_size, kEos, kTestContext, choose),
                              options_.engine, &clock_, &metrics_);
  ASSERT_TRUE(engine.ok()) << engine.status();
  served->engine = *std::move(engine);
  engine_ = served->engine.get();
  app_->set_model(std::move(served));
}

bool TestServer::engine_becomes_idle() const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (std::chrono::steady_clock::now() < end) {
    if (engine_->idle() && engine_->stats().running == 0) return true;
    std::this_thread::yield();
  }
  return false;
}

ChooseToken say(const std::string& marker, const std::string& text) {
  const auto encode = [](const std::string& source) {
    return test_tokenizer()
        ->encode(source, {.add_special_tokens = false, .parse_special_tokens = true})
        .value();
  };
  return [marker_ids = encode(marker), script = encode(text)](const std::vector<TokenId>& context) {
    // The last place where the marker stands; the script goes on from there.
    for (size_t at = context.size(); at >= marker_ids.size(); --at) {
      if (!std::equal(marker_ids.begin(), marker_ids.end(),
                      context.begin() + static_cast<std::ptrdiff_t>(at - marker_ids.size()))) {
        continue;
      }
      const size_t said = context.size() - at;
      return said < script.size() ? script[said] : kEos;
    }
    return hashed_token(context, kFirstTextToken, test_tokenizer()->vocab_size());
  };
}

ChooseToken chatter() {
  return [](const std::vector<TokenId>& context) {
    return hashed_token(context, kFirstTextToken, test_tokenizer()->vocab_size());
  };
}

Json parse(const std::string& text) {
  const auto json = parse_json(text);
  EXPECT_TRUE(json.ok()) << json.status() << " in: " << text;
  return json.value_or(Json());
}

}  // namespace mole::server
