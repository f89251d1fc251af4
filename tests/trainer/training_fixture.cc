#include "tests/trainer/training_fixture.h"

#include <gtest/gtest.h>

#include <array>

#include "base/philox.h"
#include "text/tokenizer_trainer.h"
#include "trainer/data/tokenize.h"

namespace mole::trainer {
namespace {

constexpr std::array kSubjects = {"The mole", "A gardener", "The old queen", "My neighbour"};
constexpr std::array kVerbs = {"dug under", "looked at", "painted", "asked about"};
constexpr std::array kObjects = {"the garden wall", "a quiet river", "seven red apples",
                                 "the gate"};
constexpr std::array kEnds = {".", " in the morning.", " without a word.", " again and again."};

}  // namespace

std::string fixture_text(int sentences, uint64_t seed) {
  std::string out;
  for (int i = 0; i < sentences; ++i) {
    const auto draw = philox4x32(seed, static_cast<uint64_t>(i), 0);
    out += std::string(kSubjects[draw[0] % 4]) + " " + kVerbs[draw[1] % 4] + " " +
           kObjects[draw[2] % 4] + kEnds[draw[3] % 4] + (i % 20 == 19 ? "\n\n" : " ");
  }
  return out;
}

void prepare_fixture(const std::filesystem::path& folder) {
  std::ofstream(folder / "corpus.txt") << fixture_text(2000, 1);
  std::ofstream(folder / "heldout.txt") << fixture_text(100, 2);
  std::filesystem::create_directories(folder / "tokenizer");
  const Status trained = text::train_tokenizer(
      {folder / "corpus.txt"},
      {.vocab_size = 300, .special_tokens = {"<|bos|>", "<|eos|>"}, .bos_token = "<|bos|>"},
      folder / "tokenizer" / "tokenizer.json");
  ASSERT_TRUE(trained.ok()) << trained;
  TokenizeOptions options;
  options.inputs = {(folder / "corpus.txt").string()};
  options.heldout_inputs = {(folder / "heldout.txt").string()};
  options.tokenizer = folder / "tokenizer";
  options.output = folder / "tokens";
  const auto manifest = tokenize_corpus(options);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
}

TrainConfig fixture_config(const std::filesystem::path& folder, const std::string& name) {
  TrainConfig config;
  config.model = Json::parse(R"({
      "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
      "vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
      "num_key_value_heads": 2, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16,
      "qk_rope_head_dim": 8, "v_head_dim": 16, "intermediate_size": 64,
      "moe_intermediate_size": 32, "n_routed_experts": 4, "n_shared_experts": 1,
      "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
      "moe_layer_freq": 1, "norm_topk_prob": true, "routed_scaling_factor": 1.0,
      "scoring_func": "sigmoid", "topk_method": "noaux_tc", "max_position_embeddings": 128,
      "rope_theta": 10000.0, "rope_scaling": null, "rms_norm_eps": 1e-6, "hidden_act": "silu",
      "attention_bias": false, "tie_word_embeddings": false, "initializer_range": 0.05,
      "bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16"})");
  config.output = (folder / name).string();
  config.data = (folder / "tokens").string();
  config.tokenizer = (folder / "tokenizer").string();
  config.sequence_length = 32;
  config.batch_sequences = 8;
  config.steps = 40;
  config.warmup_steps = 5;
  config.learning_rate = 1e-2;
  config.min_learning_rate = 1e-3;
  config.eval_every = 0;
  config.checkpoint_every = 0;
  config.threads = 1;
  config.tensorboard = false;
  return config;
}

}  // namespace mole::trainer
