// A trained checkpoint goes out as a model directory and comes back with equal bits: the trainer's
// scores, the server's face, and generation over both.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/cross_entropy/cross_entropy.h"
#include "kernels/torch/team.h"
#include "model/kv_cache.h"
#include "model/registry.h"
#include "tests/trainer/training_fixture.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "trainer/evaluate.h"
#include "trainer/export_model.h"
#include "trainer/generate.h"
#include "trainer/training_run.h"

namespace mole::trainer {
namespace {

class Export : public ::testing::TestWithParam<const char*> {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TestFolder("export");
    prepare_fixture(folder_->path());
    TrainConfig config = fixture_config(folder_->path(), "run");
    config.steps = 10;
    const std::atomic<bool> stop{false};
    auto run = TrainingRun::open(config, {});
    ASSERT_TRUE(run.ok()) << run.status();
    ASSERT_TRUE((*run)->run(stop).ok());
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  std::filesystem::path exported() {
    const auto output = folder_->path() / GetParam();
    if (std::filesystem::exists(output)) return output;
    const auto checkpoint = CheckpointStore::newest_in(folder_->path() / "run" / "checkpoints");
    const Status status = export_model(*checkpoint, {.output = output, .dtype = GetParam()});
    EXPECT_TRUE(status.ok()) << status;
    return output;
  }
  static TestFolder* folder_;
};
TestFolder* Export::folder_ = nullptr;

/// Log-probabilities of ids[1..] after ids[..-1], by the serving face in one expanded step.
std::vector<float> served_log_probs(model::Model& model, std::span<const TokenId> ids) {
  const auto rows = static_cast<int32_t>(ids.size()) - 1;
  model::KvCache cache({.num_layers = model.info().num_layers,
                        .num_blocks = 2,
                        .entry_elements = model.info().kv_entry_elements,
                        .dtype = model.info().dtype});
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  std::iota(positions.begin(), positions.end(), 0);
  const int32_t starts[] = {0, rows}, table[] = {0, 1};
  const model::AttentionForm forms[] = {model::AttentionForm::kExpanded};
  model::StepOutput output;
  const Status status = model.forward({.token_ids = ids.first(static_cast<size_t>(rows)),
                                       .positions = positions,
                                       .sequence_starts = starts,
                                       .forms = forms,
                                       .block_tables = table,
                                       .blocks_per_sequence = 2,
                                       .logit_rows = positions},
                                      cache, &output);
  EXPECT_TRUE(status.ok()) << status;
  const int64_t vocab = model.info().vocab_size;
  std::vector<double> logsumexp(static_cast<size_t>(rows));
  kernels::row_logsumexp(output.logits.data(), rows, vocab, vocab, logsumexp.data(),
                         kernels::team());
  std::vector<float> out;
  for (int32_t row = 0; row < rows; ++row) {
    const auto target = static_cast<size_t>(ids[static_cast<size_t>(row) + 1]);
    const float logit = output.logits[static_cast<size_t>(row * vocab) + target];
    out.push_back(kernels::log_probability(logit, logsumexp[static_cast<size_t>(row)]));
  }
  return out;
}

TEST_P(Export, ServesTheBitsThatTheTrainerScores) {
  const auto folder = exported();
  const auto tokenizer = text::Tokenizer::load(folder);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto ids = (*tokenizer)->encode(fixture_text(4, 5), {});  // with BOS
  ASSERT_TRUE(ids.ok());
  ASSERT_GT(ids->size(), 40u);
  ASSERT_LT(ids->size(), 120u);

  const DType dtype = std::string(GetParam()) == "float32" ? DType::kFloat32 : DType::kBFloat16;
  auto trainable = model::Trainable::load(folder, {.dtype = dtype, .threads = 1});
  ASSERT_TRUE(trainable.ok()) << trainable.status();
  Evaluator evaluator(**trainable, **tokenizer, ids->front(), 4);
  std::vector<float> scored;
  evaluator.set_listener([&](auto, auto values) { scored.assign(values.begin(), values.end()); });
  ASSERT_TRUE(evaluator.add_window(std::span(*ids).subspan(1)).ok());
  ASSERT_TRUE(evaluator.finish().ok());

  auto model = model::load_model(folder, {.dtype = GetParam(), .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(scored, served_log_probs(**model, *ids));
}

TEST_P(Export, WritesADirectoryThatTextUnderstands) {
  const auto folder = exported();
  const Json config = Json::parse(read_all(folder / "config.json"));
  EXPECT_EQ(config["torch_dtype"], GetParam());
  EXPECT_EQ(config["bos_token_id"], 0);
  EXPECT_EQ(config["eos_token_id"], 1);
  const auto chat = text::ChatTemplate::load(folder);
  ASSERT_TRUE(chat.ok()) << chat.status();
  const Json messages = {{{"role", "user"}, {"content", "Once upon a time"}}};
  const auto rendered = (*chat)->render(messages, nullptr, Json::object(), true);
  ASSERT_TRUE(rendered.ok()) << rendered.status();
  EXPECT_EQ(*rendered, "<|bos|>Once upon a time");
}

TEST_P(Export, GenerationRepeatsItselfForASeedAndGreedyIsTheLikeliest) {
  auto model = model::load_model(exported(), {.dtype = GetParam(), .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto tokens = [&](const SamplingOptions& options) {
    std::vector<TokenId> out;
    EXPECT_TRUE(generate(**model, {0, 40}, options, [&](TokenId id) { out.push_back(id); }).ok());
    return out;
  };
  EXPECT_EQ(tokens({.max_tokens = 20, .seed = 4}), tokens({.max_tokens = 20, .seed = 4}));
  EXPECT_EQ(tokens({.max_tokens = 20, .temperature = 0}),
            tokens({.max_tokens = 20, .temperature = 1, .top_k = 1, .seed = 9}));
  EXPECT_FALSE(generate(**model, {}, {}, [](TokenId) {}).ok());
}

INSTANTIATE_TEST_SUITE_P(Types, Export, ::testing::Values("float32", "bfloat16"));

TEST(Sample, FiltersAndFollowsTheProbabilities) {
  const std::vector<float> logits = {0.0f, std::log(2.0f), std::log(5.0f), -1e30f};
  std::vector<int> counts(4);
  const int draws = 8000;
  for (int i = 0; i < draws; ++i)
    ++counts[static_cast<size_t>(sample(logits, {.temperature = 1, .seed = 3}, i))];
  // Binomial: four standard deviations of the likeliest, sqrt(8000 * 5/8 * 3/8) = 43.
  EXPECT_NEAR(counts[0], draws / 8, 174);
  EXPECT_NEAR(counts[1], draws / 4, 174);
  EXPECT_NEAR(counts[2], draws * 5 / 8, 174);
  EXPECT_EQ(counts[3], 0);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(sample(logits, {.temperature = 1, .top_p = 0.6}, i), 2);
    EXPECT_NE(sample(logits, {.temperature = 1, .top_k = 2}, i), 0);
    EXPECT_EQ(sample(logits, {.temperature = 0}, i), 2);
  }
}

}  // namespace
}  // namespace mole::trainer
