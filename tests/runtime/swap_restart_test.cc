// Engines with threads and a real swap file: stopped and started again, the prefix cache is still
// there, and what it gives is what was computed; damaged or foreign, it is computed again.
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <semaphore>
#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/engine.h"
#include "runtime/swap_format.h"
#include "tests/runtime/test_requests.h"
#include "tests/sim/fake_model.h"

namespace mole::runtime {
namespace {

using ::testing::HasSubstr;

class SwapRestartTest : public ::testing::Test {
 protected:
  SwapRestartTest() {
    char name[] = "/tmp/mole_restart_XXXXXX";
    folder_ = mkdtemp(name);
    options_.max_num_seqs = 2;
    options_.kv_cache_bytes = 10 * kBlockBytes;
    options_.kv_swap_file = (folder_ / "pages").string();
    options_.kv_swap_bytes = int64_t{1} << 20;
  }
  ~SwapRestartTest() override { std::filesystem::remove_all(folder_); }

  // The answer of an engine of its own to one prompt, and what its metrics said afterwards.
  struct Answer {
    std::vector<TokenId> tokens;
    int32_t cached_tokens = 0;
    std::string metrics;
  };
  Answer ask(const std::vector<TokenId>& prompt, const std::string& fingerprint = "fake") {
    Metrics metrics;
    Answer answer;
    {
      sim::FakeModelOptions model_options;
      model_options.fingerprint = fingerprint;
      auto engine = Engine::create(std::make_unique<sim::FakeModel>(model_options), options_,
                                   &clock_, &metrics);
      EXPECT_TRUE(engine.ok()) << engine.status();
      if (!engine.ok()) return answer;
      GenerateRequest request;
      request.id = (*engine)->next_request_id();
      request.prompt = prompt;
      request.sampling.temperature = 0;
      request.sampling.max_tokens = 70;
      request.sampling.ignore_eos = true;
      const auto stream = *(*engine)->submit(request);
      read(*stream, &answer);
    }  // the end of the engine writes its pages
    answer.metrics = metrics.expose();
    return answer;
  }
  void read(OutputStream& stream, Answer* answer) {
    stream.set_wake([this] { woken_.release(); });
    while (true) {
      const auto event = stream.try_pop();
      if (!event.has_value()) {
        woken_.acquire();
        continue;
      }
      if (event->kind == StreamEvent::Kind::kToken) answer->tokens.push_back(event->token);
      if (event->kind == StreamEvent::Kind::kFinished) {
        answer->cached_tokens = event->usage.cached_tokens;
        return;
      }
      ASSERT_NE(event->kind, StreamEvent::Kind::kError) << event->error;
    }
  }

  static constexpr int64_t kBlockBytes = int64_t{model::kBlockTokens} * sizeof(uint64_t);
  SteadyClock clock_;
  std::counting_semaphore<> woken_{0};  // outlives the engines, whose threads release it
  std::filesystem::path folder_;
  EngineOptions options_;
};

TEST_F(SwapRestartTest, ANewEngineFindsTheOldOnesPages) {
  const auto prompt = counting(200);
  const Answer first = ask(prompt);
  EXPECT_EQ(first.cached_tokens, 0);
  ASSERT_EQ(first.tokens.size(), 70u);
  const Answer second = ask(prompt);
  EXPECT_EQ(second.tokens, first.tokens);
  EXPECT_EQ(second.cached_tokens, 192);
  EXPECT_THAT(second.metrics, HasSubstr("mole_kv_swap_pages_loaded_total 3"));
  // Another form: nothing is found that was not meant.
  auto longer = prompt;
  longer.insert(longer.end(), first.tokens.begin(), first.tokens.end());
  const Answer third = ask(longer);
  EXPECT_EQ(third.cached_tokens, 192);  // generated tokens have other bits than prompt tokens
}

TEST_F(SwapRestartTest, AnotherModelFindsNothing) {
  const auto prompt = counting(200);
  const Answer first = ask(prompt);
  const Answer other = ask(prompt, "another");
  EXPECT_EQ(other.cached_tokens, 0);
  EXPECT_EQ(other.tokens, first.tokens);  // the fakes compute the same
  EXPECT_THAT(other.metrics,
              HasSubstr("mole_kv_swap_pages_refused_total{reason=\"other_origin\"} 4"));
}

TEST_F(SwapRestartTest, ADamagedFileIsComputedAgain) {
  const auto prompt = counting(200);
  const Answer first = ask(prompt);
  {
    // All but the headers, so that the index is believed and no page is.
    const SwapGeometry geometry{kBlockBytes, SwapGeometry::slots_in(1 << 20, kBlockBytes)};
    std::fstream file(options_.kv_swap_file, std::ios::in | std::ios::out | std::ios::binary);
    for (uint64_t slot = 0; slot < geometry.num_slots; ++slot) {
      const auto at = static_cast<std::streamoff>(geometry.page_offset(slot)) + 100;
      file.seekg(at);
      const int byte = file.get();
      file.seekp(at);
      file.put(static_cast<char>(byte ^ 1));
    }
  }
  const Answer second = ask(prompt);
  EXPECT_EQ(second.tokens, first.tokens);
  EXPECT_EQ(second.cached_tokens, 0);
  EXPECT_THAT(second.metrics, HasSubstr("mole_kv_swap_pages_refused_total{reason=\"checksum\"}"));
  EXPECT_THAT(second.metrics, HasSubstr("mole_kv_swap_pages_loaded_total 0"));
  // What was found damaged was computed and written again. A page is found when it is read, and
  // nobody reads on behind the first that is missing: each answer mends one of the three at least.
  int32_t cached_tokens = 0;
  for (int answers = 0; answers < 3; ++answers) {
    const Answer next = ask(prompt);
    EXPECT_EQ(next.tokens, first.tokens);
    EXPECT_GE(next.cached_tokens, std::min(cached_tokens + model::kBlockTokens, 192));
    cached_tokens = next.cached_tokens;
  }
  EXPECT_EQ(cached_tokens, 192);
}

TEST_F(SwapRestartTest, WrongOptionsAreRefusedByName) {
  const auto why = [&] {
    Metrics metrics;
    const auto engine = Engine::create(std::make_unique<sim::FakeModel>(sim::FakeModelOptions{}),
                                       options_, &clock_, &metrics);
    return std::string(engine.status().message());
  };
  options_.enable_prefix_caching = false;
  EXPECT_THAT(why(), HasSubstr("kv-swap-file"));
  options_.enable_prefix_caching = true;
  options_.kv_swap_bytes = 5000;
  EXPECT_THAT(why(), HasSubstr("kv-swap-bytes is 5000; accepted: 12288 (one page)"));
  options_.kv_swap_bytes = -1;
  EXPECT_THAT(why(), HasSubstr("kv-swap-bytes is -1"));
  options_.kv_swap_bytes = 1 << 20;
  options_.kv_cache_bytes = 8 * kBlockBytes;  // the longest sequence, and no block to spare
  EXPECT_THAT(why(), HasSubstr("kv-cache-bytes"));
  options_.kv_cache_bytes = 10 * kBlockBytes;
  options_.kv_swap_file.clear();
  EXPECT_THAT(why(), HasSubstr("kv-swap-bytes is 1048576; accepted: 0 without a kv-swap-file"));
}

}  // namespace
}  // namespace mole::runtime
