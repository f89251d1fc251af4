// Promise 2: what the trainer scores is what the server reports, bit for bit; and the two forms of
// latent attention agree as well as their roundings allow.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "model/trainable.h"
#include "tests/model/step_driver.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

constexpr int64_t kBlocks = 16;

struct Case {
  const char* architecture;
  DType dtype;
};

class Agreement : public ::testing::TestWithParam<Case> {};

struct Batch {
  std::vector<TokenId> ids, targets;
  std::vector<int32_t> starts{0}, prompts;
};

Batch random_batch(uint64_t seed, int32_t vocab,
                   const std::vector<int32_t>& lengths = {1, 70, 40, 130}) {
  std::mt19937_64 random(seed);
  Batch batch;
  for (const int32_t length : lengths) {
    for (int32_t i = 0; i < length; ++i) {
      batch.ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab)));
    }
    batch.prompts.push_back(1 + static_cast<int32_t>(random() % static_cast<uint64_t>(length)));
    batch.starts.push_back(static_cast<int32_t>(batch.ids.size()));
  }
  for (size_t s = 0; s + 1 < batch.starts.size(); ++s) {
    for (int32_t t = batch.starts[s]; t < batch.starts[s + 1]; ++t) {
      const bool last = t + 1 == batch.starts[s + 1];
      batch.targets.push_back(last ? -1 : batch.ids[static_cast<size_t>(t + 1)]);
    }
  }
  return batch;
}

/// The server's log-probability of each row's target, prompts expanded and the rest absorbed.
std::vector<float> server_scores(Model* model, const Batch& batch,
                                 const std::vector<int32_t>& prompts) {
  std::vector<float> scores;
  for (size_t s = 0; s + 1 < batch.starts.size(); ++s) {
    DrivenSequence sequence;
    sequence.ids.assign(batch.ids.begin() + batch.starts[s],
                        batch.ids.begin() + batch.starts[s + 1]);
    sequence.prompt = prompts[s];
    StepDriver driver(model, kBlocks, s);
    EXPECT_TRUE(driver.run(&sequence)) << driver.error;
    for (size_t i = 0; i < sequence.ids.size(); ++i) {
      const TokenId target = batch.targets[static_cast<size_t>(batch.starts[s]) + i];
      scores.push_back(target < 0 ? 0.0f : log_probability(sequence.logits[i], target));
    }
  }
  return scores;
}

TEST_P(Agreement, TrainerScoresEqualServerBits) {
  // Exported in float32 and used in the case's type: both sides round the same masters.
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 11, DType::kFloat32);
  auto trainable = Trainable::load(checkpoint.folder(), {.dtype = GetParam().dtype, .threads = 1});
  ASSERT_TRUE(trainable.ok()) << trainable.status();
  const auto model = checkpoint.load(GetParam().dtype);
  ASSERT_NE(model, nullptr);
  for (uint64_t seed = 1; seed <= 2; ++seed) {
    const Batch batch = random_batch(seed, model->info().vocab_size);
    std::vector<int32_t> lengths;
    for (size_t s = 0; s + 1 < batch.starts.size(); ++s) {
      lengths.push_back(batch.starts[s + 1] - batch.starts[s]);
    }
    for (const std::vector<int32_t>& prompts : {lengths, batch.prompts}) {
      const std::vector<float> want = server_scores(model.get(), batch, prompts);
      std::vector<float> got(batch.ids.size());
      const Status status =
          (*trainable)->score({batch.ids, batch.starts, batch.targets}, prompts, got);
      ASSERT_TRUE(status.ok()) << status;
      for (size_t t = 0; t < want.size(); ++t) {
        ASSERT_EQ(want[t], got[t]) << "seed " << seed << ", row " << t;
      }
    }
  }
}

TEST_P(Agreement, LossIsTheSumOfTheScores) {
  auto model = Trainable::create(tiny_config(GetParam().architecture),
                                 {.dtype = GetParam().dtype, .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  // More rows than logits are alive at a time.
  const Batch batch = random_batch(3, (*model)->info().vocab_size, {1, 300, 40, 290});
  auto result = (*model)->loss({batch.ids, batch.starts, batch.targets}, {});
  ASSERT_TRUE(result.ok()) << result.status();
  std::vector<float> scores(batch.ids.size());
  ASSERT_TRUE((*model)->score({batch.ids, batch.starts, batch.targets}, {}, scores).ok());
  double sum = 0;
  for (const float score : scores) sum -= score;
  EXPECT_EQ(result->negative_log_likelihood, sum);
  EXPECT_EQ(result->counted_tokens, static_cast<int64_t>(batch.ids.size()) - 4);
}

INSTANTIATE_TEST_SUITE_P(All, Agreement,
                         ::testing::Values(Case{"deepseek_v3", DType::kFloat32},
                                           Case{"deepseek_v3", DType::kBFloat16},
                                           Case{"deepseek_v2", DType::kBFloat16},
                                           Case{"mixtral", DType::kFloat32},
                                           Case{"mixtral", DType::kBFloat16}),
                         [](const auto& instance) {
                           return std::string(instance.param.architecture) + "_" +
                                  std::string(dtype_name(instance.param.dtype));
                         });

TEST(MlaForms, AbsorbedIsCloseToExpanded) {
  // Float32: both forms are sums of the same few hundred products in another order. The bound is
  // that many roundings, with two layers of growth, on log-probabilities of order ten.
  constexpr float kBound = 1e-4f;
  auto model =
      Trainable::create(tiny_config("deepseek_v3"), {.dtype = DType::kFloat32, .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const Batch batch = random_batch(4, (*model)->info().vocab_size);
  const std::vector<int32_t> ones(batch.starts.size() - 1, 1);
  std::vector<float> expanded(batch.ids.size()), absorbed(batch.ids.size());
  const SequenceBatch rows{batch.ids, batch.starts, batch.targets};
  ASSERT_TRUE((*model)->score(rows, {}, expanded).ok());
  ASSERT_TRUE((*model)->score(rows, ones, absorbed).ok());
  for (size_t t = 0; t < expanded.size(); ++t) {
    EXPECT_NEAR(expanded[t], absorbed[t], kBound) << "row " << t;
  }
}

}  // namespace
}  // namespace mole::model::testing
