// Prompts that pass the layers over several steps: the same bits as in one step, with any formats
// of weights and cache, whatever is beside them, wherever the wave is cut, also when sequences
// leave it on the way; and what the model refuses. MOLE_MODEL_TEST_SEEDS runs more than the default
// number of seeds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>

#include "tests/model/step_driver.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

using kernels::KvFormat;
using ::testing::HasSubstr;

constexpr int64_t kBlocks = 48;
constexpr uint64_t kDefaultSeeds = 4;
using Parts = std::vector<std::pair<DrivenSequence*, int32_t>>;

uint64_t num_seeds() {
  const char* text = std::getenv("MOLE_MODEL_TEST_SEEDS");
  return text == nullptr ? kDefaultSeeds : std::strtoull(text, nullptr, 10);
}

DrivenSequence random_sequence(std::mt19937_64& random, int32_t vocab) {
  DrivenSequence sequence;
  sequence.prompt = 1 + static_cast<int32_t>(random() % 150);
  const int32_t length = sequence.prompt + static_cast<int32_t>(random() % 20);
  for (int32_t i = 0; i < length; ++i) {
    sequence.ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab)));
  }
  return sequence;
}

/// Steps of random sequences, of which those in prompts mostly go in waves. A member may lose its
/// pages on the way, and then begins again.
class RandomRun {
 public:
  RandomRun(Model* model, KvFormat format, uint64_t seed)
      : random_(seed), layers_(model->info().num_layers), driver_(model, kBlocks, seed, format) {}

  void run(std::vector<DrivenSequence>* sequences) {
    while (true) {
      Parts parts;
      int32_t left = 0;
      for (DrivenSequence& sequence : *sequences) {
        left += sequence.left();
        if (sequence.left() == 0 || in_wave(&sequence) || random_() % 3 == 0) continue;
        if (sequence.done < sequence.prompt && wave_.next_layer == 0 && random_() % 4 != 0) {
          join(&sequence);
        } else {
          parts.emplace_back(&sequence, 1 + static_cast<int32_t>(random_() % 40));
        }
      }
      if (left == 0) return;
      if (wave_.next_layer > 0 && random_() % 6 == 0) leave();
      DrivenWave* wave = wave_.parts.empty() ? nullptr : &wave_;
      if (wave == nullptr && parts.empty()) continue;
      const auto layers = 1 + static_cast<int32_t>(random_() % static_cast<uint64_t>(layers_));
      ASSERT_TRUE(driver_.step(parts, wave, layers)) << driver_.error;
      if (wave_.next_layer == layers_ || wave_.parts.empty()) end_wave();
    }
  }

  int32_t num_waves() const { return num_waves_; }
  int32_t num_left() const { return num_left_; }

 private:
  bool in_wave(const DrivenSequence* sequence) const {
    return std::any_of(wave_.parts.begin(), wave_.parts.end(),
                       [&](const auto& part) { return part.first == sequence; });
  }

  void join(DrivenSequence* sequence) {
    const auto count = 1 + static_cast<int32_t>(random_() % 90);
    wave_.parts.emplace_back(sequence, count);
    wave_.places.push_back(next_place_ + static_cast<int32_t>(random_() % 5));
    next_place_ = wave_.places.back() + count;
  }

  void leave() {
    const auto at = static_cast<std::ptrdiff_t>(random_() % wave_.parts.size());
    driver_.preempt(wave_.parts[static_cast<size_t>(at)].first);
    wave_.parts.erase(wave_.parts.begin() + at);
    wave_.places.erase(wave_.places.begin() + at);
    ++num_left_;
  }

  void end_wave() {
    wave_ = {};
    next_place_ = 0;
    ++num_waves_;
  }

  std::mt19937_64 random_;
  const int32_t layers_;
  StepDriver driver_;
  DrivenWave wave_;
  int32_t next_place_ = 0, num_waves_ = 0, num_left_ = 0;
};

struct Case {
  const char* architecture;
  DType dtype;
  const char* quantization;
  KvFormat format;
};

class WaveBits : public ::testing::TestWithParam<Case> {};

TEST_P(WaveBits, EqualThoseOfOneStep) {
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 11, GetParam().dtype);
  const auto model = checkpoint.load(GetParam().dtype, 2, GetParam().quantization);
  ASSERT_NE(model, nullptr);
  int32_t waves = 0, left = 0;
  for (uint64_t seed = 1; seed <= num_seeds(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    std::vector<DrivenSequence> want;
    for (int i = 0; i < 5; ++i) want.push_back(random_sequence(random, model->info().vocab_size));
    std::vector<DrivenSequence> got = want;
    for (DrivenSequence& sequence : want) {
      StepDriver driver(model.get(), kBlocks, 0, GetParam().format);
      ASSERT_TRUE(driver.run(&sequence)) << driver.error;
    }
    RandomRun run(model.get(), GetParam().format, seed);
    run.run(&got);
    waves += run.num_waves();
    left += run.num_left();
    for (size_t i = 0; i < want.size(); ++i) ASSERT_EQ(want[i].logits, got[i].logits) << i;
  }
  EXPECT_GT(waves, static_cast<int32_t>(num_seeds()));
  EXPECT_GT(left, 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, WaveBits,
    ::testing::Values(Case{"deepseek_v3", DType::kFloat32, "auto", KvFormat::kModel},
                      Case{"deepseek_v3", DType::kBFloat16, "auto", KvFormat::kInt8},
                      Case{"deepseek_v3", DType::kBFloat16, "fp8", KvFormat::kFp8},
                      Case{"deepseek_v2", DType::kBFloat16, "int8", KvFormat::kModel},
                      Case{"mixtral", DType::kBFloat16, "auto", KvFormat::kModel}),
    [](const auto& instance) {
      return std::string(instance.param.architecture) + "_" +
             std::string(dtype_name(instance.param.dtype)) + "_" + instance.param.quantization +
             "_" + std::string(kernels::kv_format_name(instance.param.format));
    });

TEST(Wave, ExpertLoadsCountEveryTokenOnce) {
  const TinyCheckpoint checkpoint(tiny_config("deepseek_v3"), 12, DType::kFloat32);
  const auto model = checkpoint.load(DType::kFloat32);
  ASSERT_NE(model, nullptr);
  std::mt19937_64 random(3);
  std::vector<DrivenSequence> sequences(2);
  for (DrivenSequence& sequence : sequences) {
    sequence = random_sequence(random, model->info().vocab_size);
  }
  StepDriver whole(model.get(), kBlocks, 1), cut(model.get(), kBlocks, 2);
  std::vector<DrivenSequence> again = sequences;
  const int32_t first = sequences[0].prompt, second = sequences[1].prompt;
  ASSERT_TRUE(whole.step({{&sequences[0], first}, {&sequences[1], second}})) << whole.error;
  const std::vector<int64_t> want = model->take_expert_loads();
  DrivenWave wave{.parts = {{&again[1], second}}, .places = {0}};
  ASSERT_TRUE(cut.step({}, &wave, 1)) << cut.error;
  ASSERT_TRUE(cut.step({{&again[0], first}}, &wave, 1)) << cut.error;
  ASSERT_TRUE(cut.step({}, &wave, model->info().num_layers)) << cut.error;
  EXPECT_EQ(model->take_expert_loads(), want);
}

class WaveErrors : public ::testing::Test {
 protected:
  WaveErrors() : checkpoint_(tiny_config("deepseek_v2"), 13, DType::kFloat32) {
    model_ = checkpoint_.load(DType::kFloat32);
    driver_ = std::make_unique<StepDriver>(model_.get(), kBlocks, 1);
    prompt_.ids = {1, 2, 3, 4, 5};
    prompt_.prompt = 4;
  }

  const TinyCheckpoint checkpoint_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<StepDriver> driver_;
  DrivenSequence prompt_;
};

TEST_F(WaveErrors, GoesOnWhereItWasLeft) {
  DrivenWave wave{.parts = {{&prompt_, 4}}, .places = {0}, .next_layer = 1};
  EXPECT_FALSE(driver_->step({}, &wave, 1));
  EXPECT_THAT(driver_->error, HasSubstr("where it was left"));
  wave.next_layer = 0;
  ASSERT_TRUE(driver_->step({}, &wave, 1)) << driver_->error;
  wave.places = {1};  // a row beyond those that are kept
  EXPECT_FALSE(driver_->step({}, &wave, 1));
  EXPECT_THAT(driver_->error, HasSubstr("where it was left"));
}

TEST_F(WaveErrors, LayersAreTheModels) {
  DrivenWave wave{.parts = {{&prompt_, 4}}, .places = {0}};
  EXPECT_FALSE(driver_->step({}, &wave, 0));
  EXPECT_THAT(driver_->error, HasSubstr("layers"));
}

TEST_F(WaveErrors, OnePlaceASequence) {
  DrivenWave wave{.parts = {{&prompt_, 4}}, .places = {}};
  EXPECT_FALSE(driver_->step({}, &wave, 1));
  EXPECT_THAT(driver_->error, HasSubstr("one place a sequence"));
}

TEST_F(WaveErrors, OnlyOfPrompts) {
  ASSERT_TRUE(driver_->step({{&prompt_, 4}})) << driver_->error;
  DrivenWave wave{.parts = {{&prompt_, 1}}, .places = {0}};
  EXPECT_FALSE(driver_->step({}, &wave, 1));
  EXPECT_THAT(driver_->error, HasSubstr("not of prompts"));
}

}  // namespace
}  // namespace mole::model::testing
