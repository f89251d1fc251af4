// Our gradients against those of PyTorch for the same weights and tokens (float32).
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/trainable.h"
#include "model_loader/safetensors.h"
#include "tests/parity/golden.h"

namespace mole::model::testing {
namespace {

// Both sides accumulate in float32 over at most a few thousand terms; each parameter's gradient is
// compared with an error of this many float32 roundings of the largest gradient in its tensor.
constexpr float kRoundings = 512;
constexpr float kFloat32Epsilon = 1.1920929e-7f;

struct Batch {
  std::vector<TokenId> ids, targets;
  std::vector<int32_t> starts{0};
};

Batch golden_batch(const Json& expected) {
  Batch batch;
  for (const auto& row : expected["token_ids"]) {
    const std::vector<TokenId> ids = row.get<std::vector<TokenId>>();
    batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
    batch.targets.insert(batch.targets.end(), ids.begin() + 1, ids.end());
    batch.targets.push_back(-1);
    batch.starts.push_back(static_cast<int32_t>(batch.ids.size()));
  }
  return batch;
}

TEST(GradientGolden, AgreesWithPyTorch) {
  const std::string name = "train_deepseek_v3";
  const Json expected = golden_expected(name);
  auto model = Trainable::load(golden_folder(name), {.dtype = DType::kFloat32, .threads = 1});
  ASSERT_TRUE(model.ok()) << model.status();
  const Batch batch = golden_batch(expected);
  const auto counted =
      std::count_if(batch.targets.begin(), batch.targets.end(), [](TokenId id) { return id >= 0; });
  auto result = (*model)->loss({batch.ids, batch.starts, batch.targets},
                               {.token_scale = 1.0 / static_cast<double>(counted)});
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_NEAR(result->loss.item<float>(), expected["loss"].get<float>(), 1e-5f);
  result->loss.backward();

  auto file = loader::SafetensorsFile::open(golden_folder(name) / "gradients.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  size_t compared = 0;
  for (const NamedTensor& parameter : (*model)->parameters()) {
    const auto found = file->tensors().find(parameter.name);
    ASSERT_NE(found, file->tensors().end()) << parameter.name;
    std::vector<float> want(static_cast<size_t>(found->second.num_elements()));
    ASSERT_EQ(static_cast<int64_t>(want.size()), parameter.tensor.numel()) << parameter.name;
    std::memcpy(want.data(), found->second.bytes.data(), found->second.bytes.size());
    const float* got = parameter.tensor.grad().data_ptr<float>();
    float largest = 0, worst = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      largest = std::max(largest, std::abs(want[i]));
      worst = std::max(worst, std::abs(want[i] - got[i]));
    }
    EXPECT_LE(worst, kRoundings * kFloat32Epsilon * largest) << parameter.name;
    ++compared;
  }
  EXPECT_EQ(compared, file->tensors().size());
}

}  // namespace
}  // namespace mole::model::testing
