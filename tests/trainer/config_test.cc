#include "trainer/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/test_folder.h"

namespace mole::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kValid = R"(
run: {output: out, seed: 7}
data: {folder: tokens, tokenizer: tok, sequence_length: 64}
train: {steps: 10, batch_sequences: 8, micro_batch_sequences: 4}
optimizer: {learning_rate: 2.5e-3}
model:
  model_type: deepseek_v3
  hidden_size: 32
  q_lora_rank: null
  norm_topk_prob: true
  rms_norm_eps: 1.0e-6
  architectures: [DeepseekV3ForCausalLM]
)";

Status load_error(const std::string& yaml, const std::vector<std::string>& settings = {}) {
  TestFolder folder("config");
  return load_config(folder.write("c.yaml", yaml), settings).status();
}

TEST(Config, ReadsEverySectionAndKeepsTheModelsTypes) {
  TestFolder folder("config");
  const auto config = load_config(folder.write("c.yaml", kValid), {});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->output, "out");
  EXPECT_EQ(config->seed, 7);
  EXPECT_EQ(config->sequence_length, 64);
  EXPECT_EQ(config->learning_rate, 2.5e-3);
  EXPECT_EQ(config->model, Json::parse(R"({"model_type": "deepseek_v3", "hidden_size": 32,
      "q_lora_rank": null, "norm_topk_prob": true, "rms_norm_eps": 1e-6,
      "architectures": ["DeepseekV3ForCausalLM"]})"));
}

TEST(Config, SettingsComeAfterTheFile) {
  TestFolder folder("config");
  const auto config = load_config(folder.write("c.yaml", kValid),
                                  {"run.seed=9", "model.hidden_size=64", "train.steps=20"});
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->seed, 9);
  EXPECT_EQ(config->steps, 20);
  EXPECT_EQ(config->model["hidden_size"], 64);
}

TEST(Config, UnknownKeysAreErrorsWithASuggestion) {
  const Status status = load_error(std::string(kValid) + "\neval: {evry: 3}\n");
  EXPECT_THAT(status.message(), HasSubstr("eval.evry: no such key; did you mean eval.every?"));
  EXPECT_THAT(load_error(kValid, {"optimizer.learnin_rate=1"}).message(),
              HasSubstr("did you mean optimizer.learning_rate?"));
  EXPECT_THAT(load_error("typo: 3\n").message(), HasSubstr("typo: no such key"));
}

TEST(Config, BadValuesNameKeyValueAndWhatIsAccepted) {
  for (const auto& [setting, wanted] : std::vector<std::pair<std::string, std::string>>{
           {"train.steps=0", "train.steps: '0', accepted: 1 to"},
           {"train.steps=ten", "train.steps: 'ten', accepted: a whole number"},
           {"optimizer.beta1=1.5", "optimizer.beta1: '1.5', accepted: 0 to 1"},
           {"optimizer.beta1=nan", "optimizer.beta1: 'nan', accepted: 0 to 1"},
           {"run.dtype=float16", "run.dtype: 'float16', accepted: float32|bfloat16"},
           {"log.tensorboard=yes", "log.tensorboard: 'yes', accepted: true, false"},
           {"checkpoint.keep=1", "checkpoint.keep: '1', accepted: 2 to"},
           {"train.micro_batch_sequences=3", "accepted: a divisor of train.batch_sequences (8)"},
           {"run.output=", "run.output: must be given"},
           {"nonsense", "accepted: section.key=value"}}) {
    EXPECT_THAT(load_error(kValid, {setting}).message(), HasSubstr(wanted)) << setting;
  }
}

TEST(Config, BrokenYamlIsAnErrorNotACrash) {
  for (const char* yaml :
       {"", "[1, 2]", "run: {output", "run: [1]", "model: 3", "run: {seed: [1]}"}) {
    EXPECT_EQ(load_error(yaml).code(), absl::StatusCode::kInvalidArgument) << yaml;
  }
}

TEST(Config, IdentityIsWhatTheBitsDependOn) {
  TestFolder folder("config");
  const auto path = folder.write("c.yaml", kValid);
  const auto a = load_config(path, {});
  const auto elsewhere = load_config(path, {"run.output=b", "run.threads=3", "eval.every=1"});
  const auto other = load_config(path, {"run.seed=8", "model.hidden_size=16"});
  ASSERT_TRUE(a.ok() && elsewhere.ok() && other.ok());
  EXPECT_EQ(a->identity(), elsewhere->identity());
  EXPECT_THAT(differences(a->identity(), other->identity()),
              ElementsAre("model.hidden_size: 32, now 16", "run.seed: 7, now 8"));
}

TEST(Config, HelpNamesEveryKey) {
  const std::string help = describe_config();
  for (const char* key :
       {"run.seed", "optimizer.clip_norm", "router.bias_update_speed", "model.*"}) {
    EXPECT_THAT(help, HasSubstr(key));
  }
}

}  // namespace
}  // namespace mole::trainer
