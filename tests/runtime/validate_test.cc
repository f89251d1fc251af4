#include "runtime/validate.h"

#include <cmath>
#include <functional>
#include <limits>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/cache_shape.h"
#include "runtime/limits.h"
#include "tests/sim/fake_model.h"

namespace mole::runtime {
namespace {

using ::testing::HasSubstr;

class ValidateTest : public ::testing::Test {
 protected:
  ValidateTest() : model_({}), options_(*resolve_options({}, model_.info())) {
    request_.prompt = {5, 6, 7};
  }
  Status with(const std::function<void(GenerateRequest*)>& change) {
    GenerateRequest request = request_;
    change(&request);
    return validate(request, model_.info(), options_);
  }
  // `change(value)` is accepted for both ends and refused, naming the field, just outside.
  template <typename T>
  void expect_range(const char* field, T min, T below, T max, T above,
                    const std::function<void(GenerateRequest*, T)>& change) {
    for (const T good : {min, max}) {
      EXPECT_TRUE(with([&](auto* request) { change(request, good); }).ok()) << field << good;
    }
    for (const T bad : {below, above}) {
      const Status status = with([&](auto* request) { change(request, bad); });
      EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << field << bad;
      EXPECT_THAT(std::string(status.message()), HasSubstr(field));
      EXPECT_THAT(std::string(status.message()), HasSubstr("accepted"));
    }
  }

  sim::FakeModel model_;
  EngineOptions options_;
  GenerateRequest request_;
};

TEST_F(ValidateTest, DefaultsAreFine) {
  EXPECT_TRUE(validate(request_, model_.info(), options_).ok());
}

TEST_F(ValidateTest, NumbersAtAndBeyondTheirLimits) {
  using R = GenerateRequest;
  const auto next = [](double x, double to) { return std::nextafter(x, to); };
  expect_range<double>("temperature", 0, -1e-9, 2, next(2, 3),
                       [](R* r, double v) { r->sampling.temperature = v; });
  expect_range<double>("top_p", 1e-9, 0, 1, next(1, 2),
                       [](R* r, double v) { r->sampling.top_p = v; });
  expect_range<double>("min_p", 0, -1e-9, 1, next(1, 2),
                       [](R* r, double v) { r->sampling.min_p = v; });
  expect_range<double>("presence_penalty", -2, next(-2, -3), 2, next(2, 3),
                       [](R* r, double v) { r->sampling.presence_penalty = v; });
  expect_range<double>("frequency_penalty", -2, next(-2, -3), 2, next(2, 3),
                       [](R* r, double v) { r->sampling.frequency_penalty = v; });
  expect_range<double>("repetition_penalty", 1e-9, 0, 10, next(10, 11),
                       [](R* r, double v) { r->sampling.repetition_penalty = v; });
  expect_range<int32_t>("n", 1, 0, 8, 9, [](R* r, int32_t v) { r->n = v; });
  expect_range<int32_t>("logprobs", -1, -2, 20, 21,
                        [](R* r, int32_t v) { r->sampling.logprobs = v; });
  expect_range<int32_t>("prompt_logprobs", -1, -2, 20, 21,
                        [](R* r, int32_t v) { r->sampling.prompt_logprobs = v; });
  expect_range<int32_t>("min_tokens", 0, -1, 16, 17,
                        [](R* r, int32_t v) { r->sampling.min_tokens = v; });
  expect_range<TokenId>("prompt token", 0, -1, 96, 97,
                        [](R* r, TokenId v) { r->prompt.back() = v; });
  expect_range<TokenId>("stop_token_ids", 0, -1, 96, 97,
                        [](R* r, TokenId v) { r->sampling.stop_token_ids = {v}; });
  expect_range<TokenId>("logit_bias", 0, -1, 96, 97, [](R* r, TokenId v) {
    r->sampling.logit_bias = {{v, 1.0f}};
  });
  expect_range<float>("logit_bias", -100, -101, 100, 101, [](R* r, float v) {
    r->sampling.logit_bias = {{3, v}};
  });
}

TEST_F(ValidateTest, NanIsNeverAccepted) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(with([&](auto* r) { r->sampling.temperature = nan; }).ok());
  EXPECT_FALSE(with([&](auto* r) { r->sampling.top_p = nan; }).ok());
  EXPECT_FALSE(with([&](auto* r) { r->sampling.min_p = nan; }).ok());
  EXPECT_FALSE(with([&](auto* r) { r->sampling.presence_penalty = nan; }).ok());
  EXPECT_FALSE(with([&](auto* r) { r->sampling.repetition_penalty = nan; }).ok());
  EXPECT_FALSE(with([&](auto* r) {
                 r->sampling.logit_bias = {{3, static_cast<float>(nan)}};
               }).ok());
}

TEST_F(ValidateTest, ListsAtAndBeyondTheirLimits) {
  const auto biases = [](int32_t count) {
    return [count](GenerateRequest* r) { r->sampling.logit_bias.assign(count, {3, 1.0f}); };
  };
  EXPECT_TRUE(with(biases(kLogitBiasEntriesMax)).ok());
  EXPECT_FALSE(with(biases(kLogitBiasEntriesMax + 1)).ok());
  const auto stops = [](int32_t count) {
    return [count](GenerateRequest* r) { r->sampling.stop_token_ids.assign(count, 3); };
  };
  EXPECT_TRUE(with(stops(kStopTokenIdsMax)).ok());
  EXPECT_FALSE(with(stops(kStopTokenIdsMax + 1)).ok());
  const auto salt = [](int32_t bytes) {
    return [bytes](GenerateRequest* r) { r->cache_salt.assign(bytes, 'x'); };
  };
  EXPECT_TRUE(with(salt(kCacheSaltBytesMax)).ok());
  EXPECT_FALSE(with(salt(kCacheSaltBytesMax + 1)).ok());
  EXPECT_FALSE(with([](auto* r) { r->prompt.clear(); }).ok());
}

TEST_F(ValidateTest, ContextLengthAtAndBeyond) {
  const auto lengths = [](size_t prompt, int32_t max_tokens) {
    return [prompt, max_tokens](GenerateRequest* r) {
      r->prompt.assign(prompt, 3);
      r->sampling.max_tokens = max_tokens;
    };
  };
  EXPECT_TRUE(with(lengths(500, 12)).ok());
  EXPECT_TRUE(with(lengths(512, 0)).ok());
  const Status refused = with(lengths(500, 13));
  EXPECT_THAT(std::string(refused.message()), ::testing::StartsWith("context_length_exceeded: "));
  EXPECT_FALSE(with(lengths(1, std::numeric_limits<int32_t>::max())).ok());
  EXPECT_FALSE(with(lengths(1, -1)).ok());
}

TEST_F(ValidateTest, OptionsGetTheirZerosFilled) {
  EXPECT_EQ(options_.max_model_len, 512);
  EXPECT_EQ(num_cache_blocks(options_, model_.info()), 64 * 8);
  EXPECT_EQ(options_.max_queued_tokens, 4 * 64 * 8 * 64);
}

TEST_F(ValidateTest, TheCacheFormatDecidesHowManyBlocksFit) {
  model::ModelInfo info;
  info.num_layers = 2;
  info.num_mtp_layers = 1;
  info.kv_entry_elements = 576;
  info.kv_rope_elements = 64;
  info.kv_compressible = true;
  info.dtype = DType::kBFloat16;
  EngineOptions options;
  options.kv_cache_bytes = int64_t{3} * 64 * 1152 * 100;
  const auto blocks = [&](const char* format) {
    options.kv_cache_dtype = format;
    return num_cache_blocks(options, info);
  };
  EXPECT_EQ(blocks("auto"), 100);
  EXPECT_EQ(blocks("bfloat16"), 100);
  EXPECT_EQ(blocks("int8"), 100 * 1152 / 644);
  EXPECT_EQ(blocks("fp8"), 100 * 1152 / 656);
  EXPECT_THAT(
      std::string(cache_format("float32", info).status().message()),
      HasSubstr("kv-cache-dtype is float32; accepted for this  model: auto, bfloat16, int8, fp8"));
}

TEST_F(ValidateTest, OptionsOutOfRangeAreNamed) {
  const auto refused = [&](const char* name, const std::function<void(EngineOptions*)>& change) {
    EngineOptions options;
    change(&options);
    const auto resolved = resolve_options(options, model_.info());
    EXPECT_EQ(resolved.status().code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_THAT(std::string(resolved.status().message()), HasSubstr(name));
  };
  refused("max-model-len", [](auto* o) { o->max_model_len = 513; });
  refused("max-model-len", [](auto* o) { o->max_model_len = -1; });
  refused("max-num-seqs", [](auto* o) { o->max_num_seqs = 0; });
  refused("max-num-batched-tokens", [](auto* o) { o->max_num_batched_tokens = 63; });
  refused("kv-cache-bytes", [](auto* o) { o->kv_cache_bytes = 1; });
  refused("kv-cache-bytes", [](auto* o) { o->kv_cache_bytes = -1; });
  refused("kv-cache-dtype", [](auto* o) { o->kv_cache_dtype = "bfloat16"; });  // not the model's
  refused("kv-cache-dtype", [](auto* o) { o->kv_cache_dtype = "int8"; });      // it can't
  refused("kv-cache-dtype", [](auto* o) { o->kv_cache_dtype = "int4"; });
  refused("max-queued-requests", [](auto* o) { o->max_queued_requests = 0; });
  refused("max-queued-tokens", [](auto* o) { o->max_queued_tokens = -1; });
  refused("queue-wait-max-us", [](auto* o) { o->queue_wait_max_us = -1; });
  refused("stream-events-max", [](auto* o) { o->stream_events_max = 0; });
  refused("target-itl-us", [](auto* o) { o->target_itl_us = -1; });
  refused("prefill-chunk-min", [](auto* o) { o->prefill_chunk_min = 0; });
  refused("speculative-method", [](auto* o) { o->speculative_method = SpeculativeMethod::kMtp; });
  const auto ngram = [](auto change) {
    return [change](EngineOptions* o) {
      o->speculative_method = SpeculativeMethod::kNgram;
      change(o);
    };
  };
  refused("num-speculative-tokens", ngram([](auto* o) { o->num_speculative_tokens = 0; }));
  refused("num-speculative-tokens", ngram([](auto* o) { o->num_speculative_tokens = 17; }));
  refused("prompt-lookup-min", ngram([](auto* o) { o->prompt_lookup_min = 0; }));
  refused("prompt-lookup-max", ngram([](auto* o) { o->prompt_lookup_max = 1; }));
  refused("max-sequences-per-request", [](auto* o) { o->max_sequences_per_request = 129; });
}

}  // namespace
}  // namespace mole::runtime
