// config.json: each wrong value gives one clear error that names key, value and what is accepted.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "model/registry.h"
#include "model/trainable.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct BadValue {
  const char* architecture;
  const char* key;
  Json value;
  const char* accepted;
};

void PrintTo(const BadValue& bad, std::ostream* out) {
  *out << bad.architecture << " " << bad.key << " = " << bad.value.dump();
}

class BadConfig : public ::testing::TestWithParam<BadValue> {};

TEST_P(BadConfig, NamesKeyValueAndAccepted) {
  Json config = tiny_config(GetParam().architecture);
  config[GetParam().key] = GetParam().value;
  const auto model = Trainable::create(config, {});
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument) << model.status();
  EXPECT_THAT(std::string(model.status().message()),
              AllOf(HasSubstr(GetParam().key), HasSubstr(GetParam().accepted)));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfig,
    ::testing::Values(BadValue{"deepseek_v3", "hidden_size", "big", "an integer from 1"},
                      BadValue{"deepseek_v3", "hidden_size", 0, "an integer from 1"},
                      BadValue{"deepseek_v3", "hidden_size", 40.5, "an integer from 1"},
                      BadValue{"deepseek_v3", "hidden_size", -3, "an integer from 1"},
                      BadValue{"deepseek_v3", "vocab_size", uint64_t{1} << 63, "an integer from 1"},
                      BadValue{"deepseek_v3", "num_hidden_layers", nullptr, "an integer from 1"},
                      BadValue{"deepseek_v3", "q_lora_rank", 0, "an integer from 1"},
                      BadValue{"deepseek_v3", "kv_lora_rank", Json::array(), "an integer from 1"},
                      BadValue{"deepseek_v3", "qk_rope_head_dim", 7, "an even number"},
                      BadValue{"deepseek_v3", "attention_bias", true, "false"},
                      BadValue{"deepseek_v3", "num_key_value_heads", 1, "num_attention_heads"},
                      BadValue{"deepseek_v3", "hidden_act", "gelu", "\"silu\""},
                      BadValue{"deepseek_v3", "scoring_func", "softmax", "\"sigmoid\""},
                      BadValue{"deepseek_v3", "topk_method", "greedy", "\"noaux_tc\""},
                      BadValue{"deepseek_v3", "n_group", 3, "a divisor of n_routed_experts"},
                      BadValue{"deepseek_v3", "n_group", 8, "two best"},
                      BadValue{"deepseek_v3", "topk_group", 1, "num_experts_per_tok"},
                      BadValue{"deepseek_v3", "num_experts_per_tok", 9, "an integer from 1 to 8"},
                      BadValue{"deepseek_v3", "rms_norm_eps", "small", "a number from"},
                      BadValue{"deepseek_v3", "rope_theta", 0, "a number from"},
                      BadValue{"deepseek_v3", "rope_scaling", 3, "not a JSON object"},
                      BadValue{"deepseek_v3", "eos_token_id", 101, "token ids"},
                      BadValue{"deepseek_v3", "tie_word_embeddings", 1, "true or false"},
                      BadValue{"deepseek_v2", "norm_topk_prob", true, "false"},
                      BadValue{"deepseek_v2", "topk_method", "noaux_tc", "\"greedy\""},
                      BadValue{"mixtral", "sliding_window", 128, "null"},
                      BadValue{"mixtral", "num_key_value_heads", 3, "a divisor"},
                      BadValue{"mixtral", "head_dim", 9, "an even number"},
                      BadValue{"mixtral", "num_local_experts", 0, "an integer from 1"}));

TEST(Config, ReportsAllProblemsAtOnce) {
  Json config = tiny_config("deepseek_v3");
  config["hidden_size"] = 0;
  config["hidden_act"] = "relu";
  config["rope_scaling"]["factor"] = "x";
  const auto model = Trainable::create(config, {});
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(std::string(model.status().message()),
              AllOf(HasSubstr("hidden_size is 0"), HasSubstr("hidden_act is \"relu\""),
                    HasSubstr("rope_scaling: factor is \"x\"")));
}

TEST(Config, AbsurdSizesAreRefusedBeforeMemoryIsTaken) {
  Json config = tiny_config("deepseek_v3");
  config["hidden_size"] = 1 << 20;
  config["vocab_size"] = 1 << 22;
  const auto created = Trainable::create(config, {});
  ASSERT_FALSE(created.ok());
  EXPECT_EQ(created.status().code(), absl::StatusCode::kInvalidArgument) << created.status();
  EXPECT_THAT(std::string(created.status().message()), HasSubstr("hidden_size"));
  config = tiny_config("deepseek_v3");
  config["max_position_embeddings"] = 1 << 22;
  config["qk_rope_head_dim"] = 4096;
  EXPECT_EQ(Trainable::create(config, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Config, UnknownRopeTypeListsAccepted) {
  Json config = tiny_config("deepseek_v3");
  config["rope_scaling"] = {{"type", "longrope"}};
  const auto model = Trainable::create(config, {});
  ASSERT_FALSE(model.ok());
  EXPECT_THAT(std::string(model.status().message()),
              AllOf(HasSubstr("longrope"), HasSubstr("\"yarn\"")));
}

TEST(Config, UnknownArchitectureListsThoseWeHave) {
  Json config = tiny_config("mixtral");
  config["model_type"] = "gpt9";
  const auto model = Trainable::create(config, {});
  EXPECT_EQ(model.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_THAT(std::string(model.status().message()),
              AllOf(HasSubstr("gpt9"), HasSubstr("deepseek_v3"), HasSubstr("mixtral")));
  config.erase("model_type");
  EXPECT_EQ(Trainable::create(config, {}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Config, UnknownDtypeListsAccepted) {
  const TinyCheckpoint checkpoint(tiny_config("mixtral"), 1, DType::kFloat32);
  const auto model = load_model(checkpoint.folder(), {.dtype = "int3"});
  EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(model.status().message()),
              AllOf(HasSubstr("int3"), HasSubstr("bfloat16")));
}

TEST(Config, GenerationConfigNamesTheEndTokens) {
  const TinyCheckpoint checkpoint(tiny_config("deepseek_v3"), 1, DType::kFloat32);
  const auto write = [&](const std::string& text) {
    std::ofstream(checkpoint.folder() / "generation_config.json") << text;
  };
  EXPECT_EQ(checkpoint.load(DType::kFloat32)->info().eos_token_ids, std::vector<TokenId>{1});
  write(R"({"eos_token_id": [3, 5]})");
  EXPECT_EQ(checkpoint.load(DType::kFloat32)->info().eos_token_ids, (std::vector<TokenId>{3, 5}));
  write(R"({"eos_token_id": 1000})");
  const auto wrong = load_model(checkpoint.folder(), {});
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(wrong.status().message()),
              AllOf(HasSubstr("generation_config.json"), HasSubstr("1000")));
}

TEST(Config, TensorsThatDontFitAreListed) {
  const TinyCheckpoint checkpoint(tiny_config("deepseek_v3"), 1, DType::kFloat32);
  Json config = tiny_config("deepseek_v3");
  config["n_shared_experts"] = 2;
  config["num_hidden_layers"] = 2;
  config["q_lora_rank"] = nullptr;
  std::ofstream(checkpoint.folder() / "config.json") << config.dump();
  const auto wrong = load_model(checkpoint.folder(), {});
  EXPECT_EQ(wrong.status().code(), absl::StatusCode::kInvalidArgument) << wrong.status();
  EXPECT_THAT(std::string(wrong.status().message()),
              AllOf(HasSubstr("model.layers.0.self_attn.q_proj.weight"),
                    HasSubstr("model.layers.0.self_attn.q_a_proj.weight"),
                    HasSubstr("shared_experts.gate_proj.weight")));
}

TEST(Config, InfoSaysWhatTheModelIs) {
  auto model = Trainable::create(tiny_config("deepseek_v3"), {});
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(info.architecture, "deepseek_v3");
  EXPECT_EQ(info.kv_entry_elements, 28);
  EXPECT_EQ(info.num_moe_layers, 2);
  EXPECT_EQ(info.num_experts, 8);
  EXPECT_EQ(info.eos_token_ids, std::vector<TokenId>{1});
  EXPECT_EQ(info.bos_token_id, 0);
  int64_t count = 0;
  for (const NamedTensor& parameter : (*model)->parameters()) count += parameter.tensor.numel();
  for (const NamedTensor& buffer : (*model)->buffers()) count += buffer.tensor.numel();
  EXPECT_EQ(info.num_parameters, count);
  // 2 MoE layers x 5 idle experts x 3 matrices of 24 x 40.
  EXPECT_EQ(info.num_active_parameters, count - 2 * 5 * 3 * 24 * 40);
}

}  // namespace
}  // namespace mole::model::testing
