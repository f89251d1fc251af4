// Our forward against transformers': log-probabilities and greedy tokens of random-weight
// checkpoints. Prompts run in expanded form, generated tokens in absorbed form, both over pages.
#include <gtest/gtest.h>

#include <algorithm>

#include "model/registry.h"
#include "tests/model/step_driver.h"
#include "tests/parity/golden.h"

namespace mole::model::testing {
namespace {

// tests/golden/README.md: float32 noise of these models is at most 1.1e-5; a wrong term is far
// above.
constexpr float kLogprobBound = 1e-4f;
constexpr int64_t kBlocks = 8;

class Golden : public ::testing::TestWithParam<std::string> {};

TokenId argmax(const std::vector<float>& logits) {
  return static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

void check_prompt(Model* model, const Json& prompt) {
  StepDriver driver(model, kBlocks, 1);
  DrivenSequence sequence;
  sequence.ids = prompt["token_ids"].get<std::vector<TokenId>>();
  sequence.prompt = static_cast<int32_t>(sequence.ids.size());
  ASSERT_TRUE(driver.run(&sequence)) << driver.error;
  for (size_t i = 1; i < sequence.ids.size(); ++i) {
    EXPECT_NEAR(log_probability(sequence.logits[i - 1], sequence.ids[i]),
                prompt["logprobs"][i].get<float>(), kLogprobBound)
        << "position " << i << " of " << sequence.ids.size();
  }
  const std::vector<float> last = prompt["last_logprobs"].get<std::vector<float>>();
  ASSERT_EQ(last.size(), sequence.logits.back().size());
  for (size_t id = 0; id < last.size(); ++id) {
    EXPECT_NEAR(log_probability(sequence.logits.back(), static_cast<TokenId>(id)), last[id],
                kLogprobBound)
        << "token " << id << " after " << sequence.ids.size();
  }
  for (const TokenId expected : prompt["greedy"].get<std::vector<TokenId>>()) {
    const TokenId chosen = argmax(sequence.logits.back());
    ASSERT_EQ(chosen, expected) << "greedy token at position " << sequence.ids.size();
    sequence.ids.push_back(chosen);
    ASSERT_TRUE(driver.run(&sequence)) << driver.error;
  }
}

TEST_P(Golden, AgreesWithTransformers) {
  auto model = load_model(golden_folder(GetParam()), {.dtype = "float32", .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const Json expected = golden_expected(GetParam());
  for (const Json& prompt : expected["prompts"]) check_prompt(model->get(), prompt);
}

INSTANTIATE_TEST_SUITE_P(All, Golden, ::testing::ValuesIn(golden_names()),
                         [](const auto& param) { return param.param; });

/// Mean absolute difference of prompt log-probabilities, which is what bfloat16 may be held to: the
/// routing of single tokens may flip.
TEST(GoldenBFloat16, MeanStaysWithinTransformersOwnNoise) {
  const std::string name = "deepseek_v3_bf16";
  auto model = load_model(golden_folder(name), {.dtype = "bfloat16", .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const Json expected = golden_expected(name);
  double sum = 0;
  int count = 0;
  for (const Json& prompt : expected["prompts"]) {
    StepDriver driver(model->get(), kBlocks, 1);
    DrivenSequence sequence;
    sequence.ids = prompt["token_ids"].get<std::vector<TokenId>>();
    sequence.prompt = static_cast<int32_t>(sequence.ids.size());
    ASSERT_TRUE(driver.run(&sequence)) << driver.error;
    for (size_t i = 1; i < sequence.ids.size(); ++i, ++count) {
      sum += std::abs(log_probability(sequence.logits[i - 1], sequence.ids[i]) -
                      prompt["logprobs"][i].get<float>());
    }
  }
  EXPECT_LE(sum / count, expected["bfloat16_noise"].get<double>());
}

}  // namespace
}  // namespace mole::model::testing
