// Promise 1: a row's bits depend on its own sequence only. Random sequences are computed alone,
// whole and token by token, and compared bit for bit with random mixtures, cuts, page orders,
// threads and instruction sets. MOLE_MODEL_TEST_SEEDS runs more than the default number of seeds.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "kernels/cpu/isa.h"
#include "kernels/torch/team.h"
#include "tests/model/step_driver.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

constexpr int64_t kBlocks = 40;
constexpr uint64_t kDefaultSeeds = 2;

uint64_t num_seeds() {
  const char* text = std::getenv("MOLE_MODEL_TEST_SEEDS");
  return text == nullptr ? kDefaultSeeds : std::strtoull(text, nullptr, 10);
}

struct Case {
  const char* architecture;
  DType dtype;
  const char* quantization = "auto";
};

std::string name_of(const ::testing::TestParamInfo<Case>& instance) {
  std::string name = std::string(instance.param.architecture) + "_" +
                     std::string(dtype_name(instance.param.dtype)) + "_" +
                     instance.param.quantization;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class Invariance : public ::testing::TestWithParam<Case> {
 protected:
  static DrivenSequence random_sequence(std::mt19937_64& random, int32_t vocab) {
    std::uniform_int_distribution<int32_t> id(0, vocab - 1), length(1, 150);
    DrivenSequence sequence;
    sequence.prompt = length(random);
    const int32_t generated = static_cast<int32_t>(random() % 20);
    for (int32_t i = 0; i < sequence.prompt + generated; ++i) sequence.ids.push_back(id(random));
    return sequence;
  }

  static void expect_equal(const DrivenSequence& want, const DrivenSequence& got,
                           const std::string& what) {
    ASSERT_EQ(want.logits.size(), got.logits.size()) << what;
    for (size_t i = 0; i < want.logits.size(); ++i) {
      ASSERT_EQ(std::memcmp(want.logits[i].data(), got.logits[i].data(),
                            want.logits[i].size() * sizeof(float)),
                0)
          << what << ": position " << i << " of " << want.ids.size() << ", prompt " << want.prompt
          << ", first logits " << want.logits[i][0] << " and " << got.logits[i][0];
    }
  }

  /// Each sequence on its own: prompt in one step, then token by token.
  static std::vector<DrivenSequence> run_alone(Model* model,
                                               std::vector<DrivenSequence> sequences) {
    for (DrivenSequence& sequence : sequences) {
      StepDriver driver(model, kBlocks, 0);
      EXPECT_TRUE(driver.run(&sequence)) << driver.error;
      for (const auto& row : sequence.logits) EXPECT_TRUE(std::isfinite(row[0]));
    }
    return sequences;
  }

  /// All together: steps of random members with random numbers of tokens, some pre-empted on the
  /// way.
  static void run_mixed(Model* model, std::vector<DrivenSequence>* sequences, uint64_t seed) {
    std::mt19937_64 random(seed);
    StepDriver driver(model, kBlocks, seed);
    int preemptions = 2;
    while (true) {
      std::vector<std::pair<DrivenSequence*, int32_t>> parts;
      int32_t left = 0;
      for (DrivenSequence& sequence : *sequences) {
        left += sequence.left();
        if (sequence.left() == 0 || random() % 3 == 0) continue;
        if (preemptions > 0 && sequence.done > sequence.prompt && random() % 4 == 0) {
          driver.preempt(&sequence);
          --preemptions;
        }
        parts.emplace_back(&sequence, 1 + static_cast<int32_t>(random() % 70));
      }
      if (left == 0) return;
      if (parts.empty()) continue;
      ASSERT_TRUE(driver.step(parts)) << driver.error;
    }
  }
};

TEST_P(Invariance, AloneEqualsAnyBatchCutAndPageOrder) {
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 7, GetParam().dtype);
  const auto model = checkpoint.load(GetParam().dtype, 1, GetParam().quantization);
  ASSERT_NE(model, nullptr);
  for (uint64_t seed = 1; seed <= num_seeds(); ++seed) {
    std::mt19937_64 random(seed);
    std::vector<DrivenSequence> sequences;
    for (int i = 0; i < 5; ++i) {
      sequences.push_back(random_sequence(random, model->info().vocab_size));
    }
    const std::vector<DrivenSequence> alone = run_alone(model.get(), sequences);
    run_mixed(model.get(), &sequences, seed);
    for (size_t i = 0; i < sequences.size(); ++i) {
      expect_equal(alone[i], sequences[i], "seed " + std::to_string(seed));
    }
  }
}

TEST_P(Invariance, ThreadsAndInstructionSetsDontShow) {
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 8, GetParam().dtype);
  std::mt19937_64 random(99);
  const kernels::Isa highest = kernels::isa();
  std::vector<DrivenSequence> first;
  for (const kernels::Isa isa : {kernels::Isa::kAvx2, kernels::Isa::kAvx512, kernels::Isa::kAmx}) {
    if (isa > highest) continue;
    kernels::set_isa_for_test(isa);
    for (const int32_t threads : {1, 2}) {
      const auto model = checkpoint.load(GetParam().dtype, threads, GetParam().quantization);
      ASSERT_NE(model, nullptr);
      if (first.empty()) {
        first = run_alone(model.get(), {random_sequence(random, model->info().vocab_size)});
        continue;
      }
      DrivenSequence again = first[0];
      again.logits.clear();
      again.done = 0;
      expect_equal(first[0], run_alone(model.get(), {again})[0],
                   std::string(kernels::isa_name(isa)) + ", threads " + std::to_string(threads));
    }
  }
  kernels::set_isa_for_test(highest);
}

TEST_P(Invariance, ExpertLoadsCountEveryToken) {
  const TinyCheckpoint checkpoint(tiny_config(GetParam().architecture), 9, GetParam().dtype);
  const auto model = checkpoint.load(GetParam().dtype, 1, GetParam().quantization);
  ASSERT_NE(model, nullptr);
  std::mt19937_64 random(5);
  const DrivenSequence sequence =
      run_alone(model.get(), {random_sequence(random, model->info().vocab_size)})[0];
  const std::vector<int64_t> loads = model->take_expert_loads();
  const int32_t experts = model->info().num_experts, layers = model->info().num_moe_layers;
  ASSERT_EQ(loads.size(), static_cast<size_t>(experts * layers));
  const Json config = tiny_config(GetParam().architecture);
  const int64_t top_k = config["num_experts_per_tok"].get<int64_t>();
  for (int32_t layer = 0; layer < layers; ++layer) {
    int64_t sum = 0;
    for (int32_t e = 0; e < experts; ++e) sum += loads[static_cast<size_t>(layer * experts + e)];
    EXPECT_EQ(sum, top_k * static_cast<int64_t>(sequence.ids.size()));
  }
  for (const int64_t load : model->take_expert_loads()) EXPECT_EQ(load, 0);
}

INSTANTIATE_TEST_SUITE_P(
    All, Invariance,
    ::testing::Values(Case{"deepseek_v3", DType::kFloat32}, Case{"deepseek_v3", DType::kBFloat16},
                      Case{"deepseek_v2", DType::kFloat32}, Case{"deepseek_v2", DType::kBFloat16},
                      Case{"mixtral", DType::kFloat32}, Case{"mixtral", DType::kBFloat16}),
    name_of);

INSTANTIATE_TEST_SUITE_P(Quantized, Invariance,
                         ::testing::Values(Case{"deepseek_v3", DType::kBFloat16, "int8"},
                                           Case{"deepseek_v3", DType::kBFloat16, "int8-g128"},
                                           Case{"deepseek_v3", DType::kBFloat16, "int8-a16"},
                                           Case{"deepseek_v3", DType::kBFloat16, "int4"},
                                           Case{"deepseek_v3", DType::kBFloat16, "fp8"},
                                           Case{"deepseek_v2", DType::kBFloat16, "int8"},
                                           Case{"mixtral", DType::kBFloat16, "int8"},
                                           Case{"mixtral", DType::kBFloat16, "int4"}),
                         name_of);

}  // namespace
}  // namespace mole::model::testing
