// Training on the fixture: the loss falls, a resumed run equals an undisturbed one, accumulation
// equals one batch, bad numbers stop the run.
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/trainer/training_fixture.h"
#include "trainer/data/batch.h"
#include "trainer/expert_balance.h"
#include "trainer/training_run.h"

namespace mole::trainer {
namespace {

using ::testing::HasSubstr;

class Training : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TestFolder("training");
    prepare_fixture(folder_->path());
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  TrainConfig config(const std::string& name) { return fixture_config(folder_->path(), name); }

  static Status run(const TrainConfig& config, const ResumeOptions& resume = {}) {
    const std::atomic<bool> stop{false};
    MOLE_ASSIGN_OR_RETURN(auto training, TrainingRun::open(config, resume));
    return training->run(stop);
  }
  /// The lines of a run's log.
  static std::vector<Json> log_of(const TrainConfig& config) {
    std::vector<Json> lines;
    std::istringstream text(read_all(std::filesystem::path(config.output) / "log.jsonl"));
    for (std::string line; std::getline(text, line);) lines.push_back(Json::parse(line));
    return lines;
  }
  /// Digests of the files of a run's newest checkpoint: equal means equal bits of all weights and
  /// moments.
  static Json digests_of(const TrainConfig& config) {
    const auto newest =
        CheckpointStore::newest_in(std::filesystem::path(config.output) / "checkpoints");
    EXPECT_TRUE(newest.ok()) << newest.status();
    return Json::parse(read_all(newest->folder / "MANIFEST.json"))["files"];
  }
  static TestFolder* folder_;
};
TestFolder* Training::folder_ = nullptr;

TEST_F(Training, LossFallsAndTheLogSaysAllOfIt) {
  TrainConfig c = config("falls");
  c.steps = 80;
  c.eval_every = 40;
  c.tensorboard = true;
  ASSERT_TRUE(run(c).ok());
  const std::vector<Json> log = log_of(c);
  ASSERT_EQ(log.size(), 82u);  // 80 steps and two evaluations
  const double first = log.front()["loss"].get<double>();
  EXPECT_NEAR(first, std::log(300.0), 0.5);  // a random model knows nothing: ln(vocabulary)
  // The grammar has 8 bits a sentence of about ten tokens: far below half of the start.
  EXPECT_LT(log[80]["loss"].get<double>(), 0.5 * first);
  EXPECT_LT(log.back()["eval"]["loss"].get<double>(), 0.5 * first);
  EXPECT_GT(log.back()["eval"]["bytes"].get<int64_t>(), 0);
  for (const char* key : {"step", "tokens", "perplexity", "learning_rate", "grad_norm",
                          "tokens_per_s", "balance_loss", "expert_load"}) {
    EXPECT_TRUE(log[5].contains(key)) << key;
  }
  EXPECT_FALSE(std::filesystem::is_empty(std::filesystem::path(c.output) / "events"));
}

TEST_F(Training, ResumedEqualsUndisturbed) {
  for (const char* dtype : {"float32", "bfloat16"}) {
    TrainConfig whole = config(std::string("whole-") + dtype);
    whole.dtype = dtype;
    whole.steps = 12;
    TrainConfig parts = whole;
    parts.output += "-parts";
    ASSERT_TRUE(run(whole).ok());
    for (int64_t stop : {3, 4, 9, 0}) {
      parts.stop_after = stop;
      ASSERT_TRUE(run(parts).ok());
    }
    EXPECT_EQ(digests_of(whole), digests_of(parts)) << dtype;
    EXPECT_EQ(log_of(parts).size(), 12u);
  }
}

TEST_F(Training, ThreadsDoNotChangeTheBits) {
  TrainConfig one = config("threads-1"), two = config("threads-2");
  one.steps = two.steps = 5;
  two.threads = 2;
  ASSERT_TRUE(run(one).ok() && run(two).ok());
  EXPECT_EQ(digests_of(one), digests_of(two));
}

TEST_F(Training, ResumeRefusesAnotherConfigurationAndSaysWhat) {
  TrainConfig c = config("other");
  c.steps = 4;
  c.stop_after = 2;
  ASSERT_TRUE(run(c).ok());
  c.seed = 9;
  const Status refused = run(c);
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(), HasSubstr("run.seed: 1, now 9"));
  EXPECT_EQ(run(c, {.from = "never"}).code(), absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(run(c, {.allow_config_change = true}).ok());
}

TEST_F(Training, NumbersThatAreNotFiniteStopTheRunWithTheStep) {
  TrainConfig c = config("not-finite");
  c.eps = 0;  // 0 / 0 for the embedding of a token that was not seen yet
  const Status status = run(c);
  EXPECT_EQ(status.code(), absl::StatusCode::kOutOfRange) << status;
  const size_t steps_done = log_of(c).size();
  EXPECT_THAT(status.message(), HasSubstr("step " + std::to_string(steps_done + 1) + ": the "));
  EXPECT_THAT(status.message(), HasSubstr("is not finite"));
}

TEST_F(Training, ConfigurationErrorsNameTheKey) {
  TrainConfig c = config("bad");
  c.model["vocab_size"] = 100;
  EXPECT_THAT(run(c).message(), HasSubstr("model.vocab_size: 100, accepted: at least"));
  c = config("bad");
  c.sequence_length = 129;
  EXPECT_THAT(run(c).message(), HasSubstr("data.sequence_length: 129, accepted: at most"));
  c = config("bad");
  c.data = "nowhere";
  EXPECT_EQ(run(c).code(), absl::StatusCode::kNotFound);
}

/// Gradients of `batch` computed `micro` sequences at a time, all of them in one row.
at::Tensor gradients(model::Trainable& model, const TokenBatch& batch, int64_t micro) {
  model.zero_grad();
  for (int64_t begin = 0; begin < batch.num_sequences(); begin += micro) {
    auto result = model.loss(batch.view(begin, begin + micro),
                             {.token_scale = 1.0 / static_cast<double>(batch.counted_tokens())});
    EXPECT_TRUE(result.ok()) << result.status();
    result->loss.backward();
  }
  std::vector<at::Tensor> all;
  for (const auto& parameter : model.parameters()) {
    all.push_back(parameter.tensor.grad().flatten().clone());
  }
  return at::cat(all);
}

TEST_F(Training, AccumulationEqualsOneBatch) {
  const TrainConfig c = config("unused");
  auto model = model::Trainable::create(c.model, {.threads = 1, .seed = 3});
  ASSERT_TRUE(model.ok()) << model.status();
  const auto data = TokenDataset::open(c.data, false);
  ASSERT_TRUE(data.ok());
  TokenBatch batch;
  std::vector<TokenId> window(32);
  for (int64_t s = 0; s < 8; ++s) {
    data->train().read(s * 100, window);
    batch.add_after_bos(data->bos_token_id(), window);
  }
  const at::Tensor whole = gradients(**model, batch, 8);
  // The same terms are added in another order: each gradient is a sum over T rows, and reordering a
  // float32 sum of T terms moves it by at most T * eps * sum of the terms' sizes (Higham, gamma_T).
  // The gradients of single sequences stand for the terms; 4 covers rows that cancel inside one.
  at::Tensor sizes = at::zeros_like(whole);
  for (int64_t s = 0; s < 8; ++s) {
    TokenBatch one;
    data->train().read(s * 100, window);
    one.add_after_bos(data->bos_token_id(), window);
    sizes += gradients(**model, one, 1).abs() / 8.0;
  }
  const double eps = std::ldexp(1.0, -24);
  const double bound =
      4.0 * static_cast<double>(batch.num_tokens()) * eps * sizes.norm().item<double>();
  for (int64_t micro : {1, 2, 4}) {
    const at::Tensor parts = gradients(**model, batch, micro);
    EXPECT_LE((whole - parts).norm().item<double>(), bound) << "micro-batches of " << micro;
  }
}

TEST(ExpertBalance, BiasesMoveTowardsTheMeanByTheSignOnly) {
  const at::Tensor bias = at::zeros({4}, at::kFloat);
  update_biases({{10, 0, 5, 5}}, 0.25, {{"bias", bias}});
  EXPECT_TRUE(at::equal(bias, at::tensor({-0.25f, 0.25f, 0.0f, 0.0f})));
  update_biases({{10, 0, 5, 6}}, 0.25, {{"bias", bias}});  // mean 5.25
  EXPECT_TRUE(at::equal(bias, at::tensor({-0.5f, 0.5f, 0.25f, -0.25f})));
  update_biases({}, 0.25, {});  // a model without biases
}

TEST(ExpertBalance, SummaryOfLoads) {
  const std::vector<int64_t> even = {5, 5, 5, 5}, collapsed = {0, 20, 0, 0};
  EXPECT_DOUBLE_EQ(summarize_load(even).entropy, 1.0);
  EXPECT_DOUBLE_EQ(summarize_load(even).max_violation, 0.0);
  EXPECT_DOUBLE_EQ(summarize_load(collapsed).entropy, 0.0);
  EXPECT_DOUBLE_EQ(summarize_load(collapsed).max_violation, 3.0);
  const LoadSummary worst = summarize_loads({even, collapsed});
  EXPECT_DOUBLE_EQ(worst.min_share, 0.0);
  EXPECT_DOUBLE_EQ(worst.max_share, 1.0);
  EXPECT_DOUBLE_EQ(worst.entropy, 0.0);
}

TEST(TokenBatch, PutsBosBeforeWindowsAndCountsNoBos) {
  TokenBatch batch;
  batch.add_after_bos(0, std::vector<TokenId>{5, 1, 0, 6});
  batch.add_shifted(0, std::vector<TokenId>{7, 8, 9});
  const auto view = batch.view();
  EXPECT_THAT(view.token_ids, ::testing::ElementsAre(0, 5, 1, 0, 7, 8));
  EXPECT_THAT(view.targets, ::testing::ElementsAre(5, 1, -1, 6, 8, 9));
  EXPECT_THAT(view.sequence_starts, ::testing::ElementsAre(0, 4, 6));
  EXPECT_EQ(batch.counted_tokens(), 5);
  const auto second = batch.view(1, 2);
  EXPECT_THAT(second.token_ids, ::testing::ElementsAre(7, 8));
  EXPECT_THAT(second.sequence_starts, ::testing::ElementsAre(0, 2));
}

}  // namespace
}  // namespace mole::trainer
