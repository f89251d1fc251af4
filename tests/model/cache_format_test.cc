// The forward over a cache in int8 and fp8 form: the same bits alone and in any batch, cut and
// order of pages, with any instruction set and number of threads; near the exact cache's result;
// refused where the architecture has no such form.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cpu/isa.h"
#include "kernels/torch/team.h"
#include "tests/model/step_driver.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

using kernels::KvFormat;

constexpr int64_t kBlocks = 24;

struct Case {
  const char* architecture;
  DType dtype;
  KvFormat format;
};

class CacheFormat : public ::testing::TestWithParam<Case> {};

std::vector<DrivenSequence> random_sequences(std::mt19937_64& random, int32_t vocab) {
  std::vector<DrivenSequence> sequences(4);
  for (DrivenSequence& sequence : sequences) {
    sequence.prompt = 1 + static_cast<int32_t>(random() % 100);
    const int32_t length = sequence.prompt + static_cast<int32_t>(random() % 40);
    for (int32_t i = 0; i < length; ++i) {
      sequence.ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab)));
    }
  }
  return sequences;
}

std::vector<DrivenSequence> run_alone(Model* model, std::vector<DrivenSequence> sequences,
                                      KvFormat format) {
  for (DrivenSequence& sequence : sequences) {
    StepDriver driver(model, kBlocks, 1, format);
    EXPECT_TRUE(driver.run(&sequence)) << driver.error;
  }
  return sequences;
}

/// All together, a few random tokens of each at a time.
std::vector<DrivenSequence> run_mixed(Model* model, std::vector<DrivenSequence> sequences,
                                      KvFormat format, std::mt19937_64& random) {
  StepDriver driver(model, kBlocks, 2, format);
  while (true) {
    std::vector<std::pair<DrivenSequence*, int32_t>> parts;
    for (DrivenSequence& sequence : sequences) {
      if (sequence.left() == 0) continue;
      parts.emplace_back(&sequence, 1 + static_cast<int32_t>(random() % 50));
    }
    if (parts.empty()) return sequences;
    if (!driver.step(parts)) {
      ADD_FAILURE() << driver.error;
      return sequences;
    }
  }
}

TEST_P(CacheFormat, EqualBitsHoweverItIsComputed) {
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 5, GetParam().dtype);
  constexpr uint64_t kSeed = 17;
  std::mt19937_64 random(kSeed);
  const kernels::Isa highest = kernels::isa();
  std::vector<DrivenSequence> want;
  for (const kernels::Isa isa : {kernels::Isa::kAvx2, kernels::Isa::kAvx512, kernels::Isa::kAmx}) {
    if (isa > highest) continue;
    kernels::set_isa_for_test(isa);
    for (const int32_t threads : {1, 2}) {
      const auto model = checkpoint.load(GetParam().dtype, threads);
      ASSERT_NE(model, nullptr);
      const int32_t vocab = model->info().vocab_size;
      if (want.empty()) {
        want = run_alone(model.get(), random_sequences(random, vocab), GetParam().format);
      }
      std::vector<DrivenSequence> fresh = want;
      for (DrivenSequence& sequence : fresh) {
        sequence.logits.clear();
        sequence.blocks.clear();
        sequence.done = 0;
      }
      const auto got = run_mixed(model.get(), fresh, GetParam().format, random);
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(want[i].logits, got[i].logits)
            << "seed " << kSeed << ", sequence " << i << ", " << kernels::isa_name(isa)
            << ", threads " << threads;
      }
    }
  }
  kernels::set_isa_for_test(highest);
}

TEST_P(CacheFormat, IsNearTheExactCache) {
  // In float32: bfloat16 would add noise of its own, and flip the routing of single tokens.
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 6, DType::kFloat32);
  const auto model = checkpoint.load(DType::kFloat32);
  ASSERT_NE(model, nullptr);
  constexpr uint64_t kSeed = 23;
  std::mt19937_64 random(kSeed);
  const auto sequences = random_sequences(random, model->info().vocab_size);
  const auto exact = run_alone(model.get(), sequences, KvFormat::kModel);
  const auto coded = run_alone(model.get(), sequences, GetParam().format);
  double difference = 0, size = 0;
  for (size_t s = 0; s < exact.size(); ++s) {
    for (size_t row = 0; row < exact[s].logits.size(); ++row) {
      for (size_t i = 0; i < exact[s].logits[row].size(); ++i) {
        difference += std::abs(exact[s].logits[row][i] - coded[s].logits[row][i]);
        size += std::abs(exact[s].logits[row][i]);
      }
    }
  }
  // A code is off by at most 1/254 (int8) of its group's largest or 1/16 (fp8) of itself. Three
  // layers add that in quadrature and attention averages it; wrong scales or places would give
  // differences of the logits' own size.
  const double code = GetParam().format == KvFormat::kInt8 ? 1.0 / 127 : 1.0 / 16;
  EXPECT_GT(difference, 0) << "the format was not used";
  EXPECT_LT(difference / size, 3 * code) << "seed " << kSeed;
}

INSTANTIATE_TEST_SUITE_P(All, CacheFormat,
                         ::testing::Values(Case{"deepseek_v3", DType::kFloat32, KvFormat::kInt8},
                                           Case{"deepseek_v3", DType::kBFloat16, KvFormat::kInt8},
                                           Case{"deepseek_v3", DType::kBFloat16, KvFormat::kFp8},
                                           Case{"deepseek_v2", DType::kFloat32, KvFormat::kFp8}),
                         [](const auto& instance) {
                           return std::string(instance.param.architecture) + "_" +
                                  std::string(dtype_name(instance.param.dtype)) + "_" +
                                  std::string(kernels::kv_format_name(instance.param.format));
                         });

TEST(CacheFormatOfGqa, IsRefusedByName) {
  const TinyCheckpoint checkpoint(tiny_config("mixtral"), 5, DType::kFloat32);
  const auto model = checkpoint.load(DType::kFloat32);
  ASSERT_NE(model, nullptr);
  EXPECT_FALSE(model->info().kv_compressible);
  StepDriver driver(model.get(), kBlocks, 1, KvFormat::kInt8);
  DrivenSequence sequence;
  sequence.ids = {1, 2, 3};
  sequence.prompt = 3;
  EXPECT_FALSE(driver.run(&sequence));
  EXPECT_THAT(driver.error, ::testing::HasSubstr("int8"));
}

}  // namespace
}  // namespace mole::model::testing
