// Gradients of whole models, the balance loss, and what the trainer relies on.
#include <ATen/core/Tensor.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <random>

#include "kernels/torch/balance.h"
#include "model/trainable.h"
#include "model_loader/safetensors.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

struct Batch {
  std::vector<TokenId> ids, targets;
  std::vector<int32_t> starts{0};
  SequenceBatch rows() const { return {ids, starts, targets}; }
};

Batch random_batch(uint64_t seed, int32_t vocab, const std::vector<int32_t>& lengths) {
  std::mt19937_64 random(seed);
  Batch batch;
  for (const int32_t length : lengths) {
    for (int32_t i = 0; i < length; ++i) {
      batch.ids.push_back(static_cast<TokenId>(random() % static_cast<uint64_t>(vocab)));
      batch.targets.push_back(i % 7 == 6 ? -1 : static_cast<TokenId>(random() % 90));
    }
    batch.starts.push_back(static_cast<int32_t>(batch.ids.size()));
  }
  return batch;
}

std::unique_ptr<Trainable> make(const std::string& name, DType dtype, int32_t threads = 1) {
  auto model =
      Trainable::create(tiny_config(name), {.dtype = dtype, .threads = threads, .seed = 5});
  EXPECT_TRUE(model.ok()) << model.status();
  return std::move(*model);
}

/// Runs loss and backward from cleared gradients; returns the loss.
double run_backward(Trainable& model, const Batch& batch, const LossOptions& options) {
  model.zero_grad();
  auto result = model.loss(batch.rows(), options);
  EXPECT_TRUE(result.ok()) << result.status();
  result->loss.backward();
  return result->loss.item<float>();
}

std::vector<float> all_gradients(const Trainable& model) {
  std::vector<float> all;
  for (const NamedTensor& parameter : model.parameters()) {
    const at::Tensor gradient = parameter.tensor.grad().contiguous();
    all.insert(all.end(), gradient.data_ptr<float>(),
               gradient.data_ptr<float>() + gradient.numel());
  }
  return all;
}

/// parameters += step * direction, in the order of all_gradients.
void move(Trainable& model, const std::vector<float>& direction, double step) {
  size_t i = 0;
  for (const NamedTensor& parameter : model.parameters()) {
    float* value = parameter.tensor.data_ptr<float>();
    for (int64_t j = 0; j < parameter.tensor.numel(); ++j) {
      value[j] += static_cast<float>(step * direction[i++]);
    }
  }
  model.weights_changed();
}

double dot(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

class Training : public ::testing::TestWithParam<const char*> {};

TEST_P(Training, SlopeAlongTheGradientIsItsSquare) {
  const auto model = make(GetParam(), DType::kFloat32);
  const Batch batch = random_batch(1, model->info().vocab_size, {30, 1, 70});
  // The balance loss counts with as much weight as the cross-entropy here.
  const LossOptions options{.token_scale = 1.0 / 101, .balance_scale = 0.5};
  run_backward(*model, batch, options);
  const std::vector<float> gradient = all_gradients(*model);
  const double square = dot(gradient, gradient);
  // A step that changes the loss by about 1e-3: float32 noise of the loss, some 1e-6, is then a
  // thousandth of the difference, and so is the curvature that central differences leave over.
  const double step = 1e-3 / square;
  move(*model, gradient, step);
  const double above = run_backward(*model, batch, options);
  move(*model, gradient, -2 * step);
  const double below = run_backward(*model, batch, options);
  EXPECT_NEAR((above - below) / (2 * step), square, 0.02 * square);
}

TEST_P(Training, BFloat16GradientPointsTheSameWay) {
  const auto exact = make(GetParam(), DType::kFloat32),
             rounded = make(GetParam(), DType::kBFloat16);
  const Batch batch = random_batch(2, exact->info().vocab_size, {40, 50});
  run_backward(*exact, batch, {.token_scale = 0.01});
  run_backward(*rounded, batch, {.token_scale = 0.01});
  const std::vector<float> a = all_gradients(*exact), b = all_gradients(*rounded);
  // Some tokens route differently in bfloat16; a wrong backward would give no likeness at all.
  EXPECT_GT(dot(a, b) / std::sqrt(dot(a, a) * dot(b, b)), 0.9);
}

TEST_P(Training, ThreadsDontShowInGradients) {
  const Batch batch = random_batch(3, 90, {64, 5, 33});
  for (const DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    const auto one = make(GetParam(), dtype, 1);
    run_backward(*one, batch, {.token_scale = 0.01, .balance_scale = 0.01});
    const std::vector<float> a = all_gradients(*one);
    const auto two = make(GetParam(), dtype, 2);
    run_backward(*two, batch, {.token_scale = 0.01, .balance_scale = 0.01});
    const std::vector<float> b = all_gradients(*two);
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0);
  }
}

TEST_P(Training, GradientStepsLowerTheLoss) {
  const auto model = make(GetParam(), DType::kBFloat16);
  const Batch batch = random_batch(4, model->info().vocab_size, {60});
  const double first = run_backward(*model, batch, {.token_scale = 1.0 / 52});
  double last = first;
  for (int i = 0; i < 10; ++i) {
    std::vector<float> gradient = all_gradients(*model);
    move(*model, gradient, -0.5 / std::sqrt(dot(gradient, gradient)));
    last = run_backward(*model, batch, {.token_scale = 1.0 / 52});
  }
  EXPECT_LT(last, first - 0.5);
}

TEST_P(Training, ExportedAndLoadedIsTheSameModel) {
  const auto model = make(GetParam(), DType::kBFloat16);
  const Batch batch = random_batch(5, model->info().vocab_size, {70, 20});
  std::vector<float> before(batch.ids.size()), after(batch.ids.size());
  ASSERT_TRUE(model->score(batch.rows(), {}, before).ok());
  const std::filesystem::path folder =
      std::filesystem::path(::testing::TempDir()) / (std::string("exported_") + GetParam());
  std::filesystem::create_directories(folder);
  const ExportedTensors exported = model->export_tensors(DType::kBFloat16);
  ASSERT_TRUE(loader::write_safetensors(folder / "model.safetensors", exported.views).ok());
  std::ofstream(folder / "config.json") << model->config().dump();
  const auto loaded = Trainable::load(folder, {.dtype = DType::kBFloat16, .threads = 1});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_TRUE((*loaded)->score(batch.rows(), {}, after).ok());
  EXPECT_EQ(before, after);
  std::filesystem::remove_all(folder);
}

INSTANTIATE_TEST_SUITE_P(All, Training, ::testing::Values("deepseek_v3", "deepseek_v2", "mixtral"),
                         [](const auto& instance) { return std::string(instance.param); });

TEST(Trainable, InitialValuesDependOnNameAndSeedOnly) {
  Json small = tiny_config("deepseek_v3"), large = small;
  large["num_hidden_layers"] = 4;
  auto a = Trainable::create(small, {.threads = 1, .seed = 3});
  auto b = Trainable::create(large, {.threads = 1, .seed = 3});
  auto c = Trainable::create(small, {.threads = 1, .seed = 4});
  ASSERT_TRUE(a.ok() && b.ok() && c.ok());
  const auto first = (*a)->export_tensors(DType::kFloat32),
             wide = (*b)->export_tensors(DType::kFloat32),
             other = (*c)->export_tensors(DType::kFloat32);
  const std::string name = "model.layers.1.mlp.experts.3.up_proj.weight";
  const auto bytes = [&](const ExportedTensors& tensors) {
    const auto view = tensors.views.at(name).bytes;
    return std::vector<std::byte>(view.begin(), view.end());
  };
  EXPECT_EQ(bytes(first), bytes(wide));
  EXPECT_NE(bytes(first), bytes(other));
}

TEST(Trainable, RefusesBadBatches) {
  const auto model = make("deepseek_v2", DType::kFloat32);
  const auto code = [&](const Batch& batch) {
    return model->loss(batch.rows(), {}).status().code();
  };
  Batch batch = random_batch(1, 90, {5});
  batch.ids[2] = model->info().vocab_size;
  EXPECT_EQ(code(batch), absl::StatusCode::kInvalidArgument);
  batch = random_batch(1, 90, {5});
  batch.targets[1] = -2;
  EXPECT_EQ(code(batch), absl::StatusCode::kInvalidArgument);
  batch = random_batch(1, 90, {5});
  batch.starts = {0, 4};
  EXPECT_EQ(code(batch), absl::StatusCode::kInvalidArgument);
  batch = random_batch(1, 90, {model->info().context_length + 1});
  EXPECT_EQ(code(batch), absl::StatusCode::kInvalidArgument);
}

TEST(BalanceLoss, GradientAgreesWithDifferences) {
  constexpr int32_t kExperts = 6, kTopK = 2, kTokens = 9;
  const std::vector<int32_t> starts{0, 4, 4, 9};
  std::mt19937_64 random(17);
  std::uniform_real_distribution<float> score(0.05f, 0.95f);
  std::vector<float> scores(kTokens * kExperts), gradient(scores.size());
  for (float& value : scores) value = score(random);
  kernels::BalanceArgs args{scores.data(), kExperts, kTopK, &starts, 3.0, gradient.data()};
  const double value = kernels::balance_loss(args);
  // Perfectly even routing gives 1 a sequence; two of the three sequences have tokens.
  EXPECT_GT(value, 1.0);
  args.dscores = nullptr;
  for (size_t i = 0; i < scores.size(); ++i) {
    const float kept = scores[i], step = 1e-4f;
    // Counts f are constants of the loss; a step this small doesn't change who is chosen here.
    scores[i] = kept + step;
    const double above = kernels::balance_loss(args);
    const float up = scores[i];
    scores[i] = kept - step;
    const double below = kernels::balance_loss(args);
    const double slope = 3.0 * (above - below) / (static_cast<double>(up) - scores[i]);
    scores[i] = kept;
    EXPECT_NEAR(slope, gradient[i], 1e-3) << "score " << i;
  }
}

}  // namespace
}  // namespace mole::model::testing
