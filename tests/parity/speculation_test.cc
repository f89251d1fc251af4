// Speculation is exact on a real model too: requests through the engine core give the same tokens
// and the same bits of log-probability whether drafts are made or not, alone and together, with
// small steps and few pages. MOLE_SEED repeats a failure.
#include <bit>
#include <cstdlib>
#include <random>

#include <gtest/gtest.h>

#include "model/registry.h"
#include "runtime/cache_shape.h"
#include "runtime/engine_core.h"
#include "runtime/validate.h"
#include "tests/parity/golden.h"

namespace mole::model::testing {
namespace {

using runtime::EngineOptions;
using runtime::SpeculativeMethod;
using runtime::StreamEvent;

constexpr int32_t kRequests = 10;

struct Sample {
  TokenId token = 0;
  uint32_t logprob_bits = 0;
  bool operator==(const Sample&) const = default;
};

struct Outcome {
  std::vector<std::vector<Sample>> samples;  // by request and sequence
  int64_t drafted = 0, accepted = 0, preempted = 0;
};

uint64_t test_seed() {
  const char* text = std::getenv("MOLE_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 10) : std::random_device{}();
}

// Short vocabularies repeat themselves, so that n-grams are found; every kind of sampling.
runtime::GenerateRequest draw_request(std::mt19937_64* random, uint64_t id, int32_t vocab) {
  const auto below = [&](int32_t bound) {
    return static_cast<int32_t>((*random)() % static_cast<uint64_t>(bound));
  };
  runtime::GenerateRequest request;
  request.id = RequestId{id};
  const int32_t kinds = 2 + below(vocab - 2);
  for (int32_t i = below(3) == 0 ? 120 : 1 + below(30); i > 0; --i) {
    request.prompt.push_back(below(kinds));
  }
  runtime::SamplingParams& sampling = request.sampling;
  sampling.seed = below(1000);
  sampling.temperature = below(2) == 0 ? 0.0 : 0.7;
  sampling.max_tokens = 90 + below(40);
  sampling.min_tokens = below(20);
  sampling.ignore_eos = below(4) != 0;
  sampling.logprobs = 2;
  if (below(3) == 0) sampling.top_p = 0.9;
  if (below(3) == 0) sampling.repetition_penalty = 1.1;
  if (below(3) == 0) sampling.logit_bias = {{below(vocab), 2.0F}};
  request.n = below(4) == 0 ? 2 : 1;
  if (id <= 4) {  // these fill a block at the same time: five are too few for them
    request.prompt.resize(60, 1);
    sampling.ignore_eos = true;
    request.n = 1;
  }
  if (id == 1) sampling.logit_bias = {{5, 50.0F}};  // says the same for ever: drafts are right
  return request;
}

class SpeculationTest : public ::testing::TestWithParam<const char*> {
 protected:
  static Outcome run(EngineOptions options, bool together, int32_t threads) {
    const auto method = options.speculative_method;
    auto model = load_model(
        golden_folder("deepseek_v3_mtp"),
        {.dtype = GetParam(), .threads = threads, .mtp = method == SpeculativeMethod::kMtp});
    EXPECT_TRUE(model.ok()) << model.status();
    const int32_t vocab = (*model)->info().vocab_size;
    const auto resolved = runtime::resolve_options(options, (*model)->info());
    EXPECT_TRUE(resolved.ok()) << resolved.status();
    Metrics registry;
    runtime::EngineMetrics metrics(&registry);
    ManualClock clock;
    runtime::EngineCore core(*std::move(model), *resolved, &clock, &metrics);
    Outcome outcome;
    std::mt19937_64 random(seed());
    std::vector<std::shared_ptr<runtime::OutputStream>> streams;
    for (int32_t i = 0; i < kRequests; ++i) {
      auto request = draw_request(&random, static_cast<uint64_t>(i) + 1, vocab);
      auto state = runtime::make_request_state(std::move(request),
                                               {.vocab_size = vocab,
                                                .stream_events_max = 1000,
                                                .draft_tokens_max = resolved->draft_tokens_max(),
                                                .ngram = resolved->ngram_options()});
      streams.push_back(state->stream);
      core.add(std::move(state));
      while (!core.idle() && (!together || i + 1 == kRequests)) {
        EXPECT_TRUE(core.step().ok());
        outcome.preempted += core.last_plan()->num_preempted;
      }
    }
    for (const auto& stream : streams) read(*stream, &outcome);
    return outcome;
  }

  // Five blocks, one more than the longest sequence may need.
  static int64_t few_pages(SpeculativeMethod method) {
    const bool mtp = method == SpeculativeMethod::kMtp;
    const auto model = load_model(golden_folder("deepseek_v3_mtp"),
                                  {.dtype = GetParam(), .threads = 1, .mtp = mtp});
    EngineOptions options;
    return 5 * runtime::cache_shape(options, (*model)->info(), 1).total_bytes();
  }

  static uint64_t seed() {
    static const uint64_t value = test_seed();
    return value;
  }

 private:
  static void read(runtime::OutputStream& stream, Outcome* outcome) {
    std::vector<Sample> sequences[2];
    while (const auto event = stream.try_pop()) {
      ASSERT_NE(event->kind, StreamEvent::Kind::kError) << event->error;
      if (event->kind == StreamEvent::Kind::kToken) {
        sequences[event->index].push_back(
            {event->token, std::bit_cast<uint32_t>(event->logprobs.logprob)});
      } else if (event->kind == StreamEvent::Kind::kFinished) {
        sequences[event->index].push_back({event->stop_token, 0});
        outcome->drafted += event->usage.drafted_tokens;
        outcome->accepted += event->usage.accepted_tokens;
      }
    }
    for (auto& samples : sequences) outcome->samples.push_back(std::move(samples));
  }
};

TEST_P(SpeculationTest, GivesTheSameBits) {
  SCOPED_TRACE("MOLE_SEED=" + std::to_string(seed()));
  EngineOptions plain;
  plain.max_model_len = 256;
  plain.max_num_seqs = 8;
  const Outcome expected = run(plain, false, 1);
  EXPECT_EQ(expected.drafted, 0);
  for (const auto method : {SpeculativeMethod::kNgram, SpeculativeMethod::kMtp}) {
    EngineOptions options = plain;
    options.speculative_method = method;
    options.prompt_lookup_min = 1;
    EXPECT_EQ(run(options, false, 1).samples, expected.samples) << "alone";
    const Outcome together = run(options, true, 2);
    EXPECT_EQ(together.samples, expected.samples) << "together";
    EXPECT_GT(together.accepted, 0);
    EXPECT_GT(together.drafted, together.accepted);
    options.max_num_batched_tokens = 24;
    options.num_speculative_tokens = 7;
    EXPECT_EQ(run(options, true, 1).samples, expected.samples) << "small steps";
    options.max_num_batched_tokens = plain.max_num_batched_tokens;
    options.kv_cache_bytes = few_pages(method);
    const Outcome crowded = run(options, true, 1);
    EXPECT_EQ(crowded.samples, expected.samples) << "few pages";
    EXPECT_GT(crowded.preempted, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, SpeculationTest, ::testing::Values("float32", "bfloat16"));

}  // namespace
}  // namespace mole::model::testing
