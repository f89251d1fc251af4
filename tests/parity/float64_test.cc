// Whole models in bfloat16, one of them stored in DeepSeek's FP8 blocks, against float64
// (tests/golden/make_float64.py). How far a log-probability may lie from the exact one follows from
// the roundings to bfloat16 that the forward makes: docs/numerics.md, "whole models".
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "model/registry.h"
#include "model_loader/checkpoint.h"
#include "model_loader/safetensors.h"
#include "tests/model/step_driver.h"
#include "tests/parity/golden.h"

namespace mole::model::testing {
namespace {

namespace fs = std::filesystem;

// The sum of thousands of independent errors is normal: beyond six deviations lies one in 5e8.
constexpr double kDeviations = 6;
constexpr double kFloat32Bound = 1e-4;  // as tests/parity/logits_test.cc
constexpr int64_t kBlocks = 4;

Json float64_golden(const std::string& name) {
  std::ifstream file(golden_folder(name) / "float64.json");
  EXPECT_TRUE(file.good());
  return Json::parse(file);
}

/// Log-probabilities in the golden's order: of each next token, then of the vocabulary at the end.
std::vector<double> log_probs_of(const fs::path& folder, const std::string& dtype,
                                 const Json& golden) {
  auto model = load_model(folder, {.dtype = dtype, .threads = 2});
  EXPECT_TRUE(model.ok()) << model.status();
  std::vector<double> values;
  if (!model.ok()) return values;
  StepDriver driver(model->get(), kBlocks, 1);
  DrivenSequence sequence;
  sequence.ids = golden["token_ids"].get<std::vector<TokenId>>();
  sequence.prompt = golden["prompt"].get<int32_t>();
  EXPECT_TRUE(driver.run(&sequence)) << driver.error;
  for (size_t i = 0; i + 1 < sequence.ids.size(); ++i) {
    values.push_back(log_probability(sequence.logits[i], sequence.ids[i + 1]));
  }
  for (int32_t id = 0; id < (*model)->info().vocab_size; ++id) {
    values.push_back(log_probability(sequence.logits.back(), id));
  }
  return values;
}

std::vector<double> joined(const Json& golden, const char* rows, const char* last) {
  auto values = golden[rows].get<std::vector<double>>();
  const auto more = golden[last].get<std::vector<double>>();
  values.insert(values.end(), more.begin(), more.end());
  return values;
}

struct Distance {
  double largest = 0;  // in standard deviations
  double mean_square = 0;
};

Distance distance(const std::vector<double>& got, const Json& golden) {
  const auto want = joined(golden, "logprobs", "last_logprobs");
  const auto deviations = joined(golden, "deviations", "last_deviations");
  EXPECT_EQ(got.size(), want.size());
  Distance result;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    const double away = std::abs(got[i] - want[i]) / deviations[i];
    result.largest = std::max(result.largest, away);
    result.mean_square += away * away / static_cast<double>(want.size());
  }
  return result;
}

class Float64Golden : public ::testing::TestWithParam<std::string> {};

TEST_P(Float64Golden, BFloat16LiesWithinItsRoundings) {
  const Json golden = float64_golden(GetParam());
  const Distance seen =
      distance(log_probs_of(golden_folder(GetParam()), "bfloat16", golden), golden);
  RecordProperty("largest_in_deviations", std::to_string(seen.largest));
  EXPECT_LE(seen.largest, kDeviations);
  // Errors of one run are correlated, so that their mean square is not near 1 but of its size. Far
  // below, the roundings that were counted were not made; far above, others were.
  EXPECT_GT(seen.mean_square, 0.1);
  EXPECT_LT(seen.mean_square, 4);
}

TEST_P(Float64Golden, Float32IsExactToItsOwnRoundings) {
  const Json golden = float64_golden(GetParam());
  const auto want = joined(golden, "logprobs", "last_logprobs");
  const auto got = log_probs_of(golden_folder(GetParam()), "float32", golden);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], kFloat32Bound) << i;
}

INSTANTIATE_TEST_SUITE_P(All, Float64Golden, ::testing::Values("float64_fp8", "float64_bf16"),
                         [](const auto& param) { return param.param; });

/// The bound sees a fault: one block's scale of one matrix, off by a tenth.
TEST(Float64GoldenFp8, ABlockWithAWrongScaleIsSeen) {
  constexpr char kName[] = "float64_fp8";
  const fs::path folder = fs::path(::testing::TempDir()) / "mole_float64_wrong_scale";
  fs::remove_all(folder);
  fs::create_directories(folder);
  fs::copy(golden_folder(kName) / "config.json", folder);
  auto checkpoint = loader::Checkpoint::open(golden_folder(kName));
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  auto tensors = (*checkpoint)->tensors();
  loader::TensorView& view = tensors["model.layers.1.self_attn.o_proj.weight_scale_inv"];
  ASSERT_EQ(view.dtype, DType::kFloat32);
  std::vector<float> scales(static_cast<size_t>(view.num_elements()));
  ASSERT_GE(scales.size(), 2u) << "one block only: the fault would be a whole matrix's";
  std::copy(view.bytes.begin(), view.bytes.end(),
            std::as_writable_bytes(std::span(scales)).begin());
  scales[0] *= 1.1f;
  view.bytes = std::as_bytes(std::span(scales));
  ASSERT_TRUE(loader::write_safetensors(folder / "model.safetensors", tensors).ok());
  const Json golden = float64_golden(kName);
  const Distance seen = distance(log_probs_of(folder, "bfloat16", golden), golden);
  EXPECT_GT(seen.largest, kDeviations);
  fs::remove_all(folder);
}

}  // namespace
}  // namespace mole::model::testing
