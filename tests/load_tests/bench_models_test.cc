#include "load_tests/bench_models.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <numeric>

#include "load_tests/checkpoint_writer.h"
#include "load_tests/random_values.h"
#include "model/registry.h"
#include "model_loader/checkpoint.h"

namespace mole::load_tests {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  explicit Folder(const std::string& name)
      : path_(fs::path(::testing::TempDir()) / (name + "_" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

int64_t parameters_of(const BenchModel& model) {
  const auto config = bench_config(model);
  EXPECT_TRUE(config.ok()) << config.status();
  int64_t count = 0;
  for (const TensorSpec& spec : tensors_of(*config)) count += spec.num_elements();
  return count;
}

TEST(BenchModels, PublishedShapesHaveTheirPublishedSizes) {
  // As their papers and model cards round them.
  EXPECT_NEAR(static_cast<double>(parameters_of({.shape = "v2-lite"})), 15.7e9, 0.05e9);
  EXPECT_NEAR(static_cast<double>(parameters_of({.shape = "v3"})), 671e9, 0.5e9);
  EXPECT_NEAR(static_cast<double>(parameters_of({.shape = "moonlight"})), 16e9, 0.1e9);
  EXPECT_NEAR(static_cast<double>(parameters_of(*preset("lite16e"))), 4.91e9, 0.02e9);
  EXPECT_NEAR(static_cast<double>(parameters_of(*preset("fixed-cost"))), 102e6, 3e6);
}

TEST(BenchModels, RefusalsNameWhatIsAccepted) {
  EXPECT_THAT(std::string(bench_config({.shape = "v9"}).status().message()),
              ::testing::HasSubstr("v2-lite, v3, moonlight"));
  EXPECT_THAT(std::string(bench_config({.experts = 3}).status().message()),
              ::testing::HasSubstr("at least num_experts_per_tok, 6"));
  EXPECT_THAT(std::string(bench_config({.mtp_layers = 1}).status().message()),
              ::testing::HasSubstr("only shape v3"));
  EXPECT_THAT(std::string(preset("huge").status().message()), ::testing::HasSubstr("lite16e"));
}

TEST(BenchModels, GroupsFollowTheNumberOfExperts) {
  const auto config = bench_config({.shape = "v3", .layers = 4, .experts = 12});
  ASSERT_TRUE(config.ok());
  EXPECT_EQ((*config)["n_group"], 4);     // 12 / 8 is no whole number
  EXPECT_EQ((*config)["topk_group"], 4);  // 8 of 12 experts take three groups of 3 at least
}

TEST(RandomValues, HaveTheDeviationAskedForAndDependOnTheIndexOnly) {
  constexpr int64_t kCount = 1 << 16;
  const uint64_t key = stream_key(7, "model.norm.weight");
  std::vector<float> values(kCount), part(100);
  fill_normal(key, 0, kCount, 0.02, DType::kFloat32, values.data());
  fill_normal(key, 1234, 100, 0.02, DType::kFloat32, part.data());
  EXPECT_TRUE(std::equal(part.begin(), part.end(), values.begin() + 1234));
  double sum = 0, squares = 0;
  for (const float value : values) {
    sum += value;
    squares += double{value} * value;
  }
  // Five standard errors of the mean and of the deviation.
  EXPECT_NEAR(sum / kCount, 0, 5 * 0.02 / std::sqrt(kCount));
  EXPECT_NEAR(std::sqrt(squares / kCount), 0.02, 5 * 0.02 / std::sqrt(2.0 * kCount));
  EXPECT_NE(stream_key(7, "a"), stream_key(8, "a"));
  EXPECT_NE(stream_key(7, "a"), stream_key(7, "b"));
}

std::vector<float> last_logits(model::Model& model, int32_t tokens) {
  model::KvCache cache({.num_layers = model.info().num_layers,
                        .num_blocks = 1,
                        .entry_elements = model.info().kv_entry_elements,
                        .dtype = model.info().dtype});
  std::vector<int32_t> ids(static_cast<size_t>(tokens)), positions(ids.size());
  std::iota(ids.begin(), ids.end(), 5);
  std::iota(positions.begin(), positions.end(), 0);
  const std::vector<int32_t> starts = {0, tokens}, table = {0}, rows = {tokens - 1};
  const std::vector<model::AttentionForm> forms = {model::AttentionForm::kExpanded};
  model::StepOutput output;
  const Status status = model.forward({.token_ids = ids,
                                       .positions = positions,
                                       .sequence_starts = starts,
                                       .forms = forms,
                                       .block_tables = table,
                                       .blocks_per_sequence = 1,
                                       .logit_rows = rows},
                                      cache, &output);
  EXPECT_TRUE(status.ok()) << status;
  return {output.logits.begin(), output.logits.end()};
}

class WrittenCheckpoint : public ::testing::TestWithParam<BenchModel> {};

TEST_P(WrittenCheckpoint, LoadsRunsAndDoesNotDependOnThreadsOrShards) {
  auto config = bench_config(GetParam());
  ASSERT_TRUE(config.ok()) << config.status();
  // Published widths would take a gigabyte.
  config->update({{"hidden_size", 64},
                  {"intermediate_size", 96},
                  {"moe_intermediate_size", 32},
                  {"vocab_size", 320},
                  {"bos_token_id", 0},
                  {"eos_token_id", 1},
                  {"num_attention_heads", 2},
                  {"num_key_value_heads", 2},
                  {"kv_lora_rank", 32}});
  Folder one("bench_model_one"), two("bench_model_two");
  const auto whole = write_checkpoint(one.path(), *config, {.seed = 3, .threads = 1});
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->shards, 1);
  const auto cut =
      write_checkpoint(two.path(), *config, {.seed = 3, .shard_bytes_max = 100'000, .threads = 3});
  ASSERT_TRUE(cut.ok()) << cut.status();
  EXPECT_GT(cut->shards, 1);
  const auto first = loader::Checkpoint::open(one.path());
  const auto second = loader::Checkpoint::open(two.path());
  ASSERT_TRUE(first.ok() && second.ok()) << first.status() << second.status();
  EXPECT_EQ((*first)->weight_bytes(), whole->bytes);
  for (const auto& [name, view] : (*first)->tensors()) {
    const auto& other = (*second)->tensors().at(name);
    EXPECT_TRUE(std::ranges::equal(view.bytes, other.bytes)) << name;
  }
  const auto model = model::load_model(two.path(), {.threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const std::vector<float> logits = last_logits(**model, 9);
  ASSERT_EQ(logits.size(), 320u);
  for (const float logit : logits) EXPECT_TRUE(std::isfinite(logit) && std::abs(logit) < 50);
  EXPECT_EQ(write_checkpoint(one.path(), *config, {}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, WrittenCheckpoint,
    ::testing::Values(BenchModel{.shape = "v2-lite", .layers = 3, .experts = 8},
                      BenchModel{.shape = "v3", .layers = 4, .experts = 16, .mtp_layers = 1},
                      BenchModel{
                          .shape = "moonlight", .layers = 2, .experts = 8, .dtype = "float32"}));

TEST(FillerTokenizer, NamesEveryIdOnce) {
  const Json tokenizer = filler_tokenizer(400, 398, 399);
  const Json& vocab = tokenizer["model"]["vocab"];
  EXPECT_EQ(vocab.size(), 400u);
  EXPECT_EQ(vocab["<|bos|>"], 398);
  EXPECT_EQ(vocab["a"], 'a');
}

}  // namespace
}  // namespace mole::load_tests
