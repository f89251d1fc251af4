// Quantised checkpoints: what is quantised ahead serves the same bits as what is quantised while it
// loads, whole or in shards; files that don't fit are refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <limits>
#include <numeric>

#include "model/quantize_checkpoint.h"
#include "model/registry.h"
#include "model_loader/checkpoint.h"
#include "tests/model/step_driver.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr const char* kFormats[] = {"int8", "int8-g128", "int8-a16", "int4", "fp8"};

/// Prompt and a few generated tokens through the model.
std::vector<std::vector<float>> logits_of(Model* model) {
  DrivenSequence sequence;
  sequence.ids.resize(70);
  std::iota(sequence.ids.begin(), sequence.ids.end(), 3);
  sequence.prompt = 65;
  StepDriver driver(model, 4, 1);
  EXPECT_TRUE(driver.run(&sequence)) << driver.error;
  return sequence.logits;
}

class QuantizationTest : public ::testing::Test {
 protected:
  QuantizationTest() : source_(tiny_config("deepseek_v3"), 21, DType::kBFloat16) {}
  ~QuantizationTest() override {
    std::error_code ignored;
    fs::remove_all(out(), ignored);
  }

  fs::path out() const { return source_.folder().string() + "_quantized"; }

  StatusOr<QuantizeReport> quantize(const std::string& format, int64_t shard_bytes = 1 << 30) {
    fs::remove_all(out());
    return quantize_checkpoint(source_.folder(), out(),
                               {.format = format, .threads = 2, .shard_bytes = shard_bytes});
  }
  StatusOr<std::unique_ptr<Model>> load_out(const std::string& quantization = "auto",
                                            const std::string& dtype = "bfloat16") {
    return load_model(out(), {.dtype = dtype, .quantization = quantization, .threads = 1});
  }

  /// Writes `out` again with one tensor changed.
  void change(const std::string& name, const std::function<void(loader::TensorView*)>& edit) {
    auto checkpoint = loader::Checkpoint::open(out());
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    auto tensors = (*checkpoint)->tensors();
    ASSERT_TRUE(tensors.contains(name)) << name;
    edit(&tensors[name]);
    if (tensors[name].bytes.empty()) tensors.erase(name);
    ASSERT_TRUE(loader::write_safetensors(out() / "model.safetensors", tensors).ok());
  }
  void set_config(const Json& quantization) {
    Json config = tiny_config("deepseek_v3");
    config["quantization_config"] = quantization;
    std::ofstream(out() / "config.json") << config.dump();
  }
  void expect_refused(const std::string& what, absl::StatusCode code) {
    const auto model = load_out();
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().code(), code) << model.status();
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(what));
  }

  TinyCheckpoint source_;
};

TEST_F(QuantizationTest, AheadEqualsOnLoad) {
  for (const char* format : kFormats) {
    const auto on_load = source_.load(DType::kBFloat16, 1, format);
    ASSERT_NE(on_load, nullptr);
    EXPECT_EQ(on_load->info().quantization, format);
    for (const int64_t shard_bytes : {int64_t{1} << 30, int64_t{20'000}}) {
      const auto report = quantize(format, shard_bytes);
      ASSERT_TRUE(report.ok()) << report.status();
      EXPECT_LT(report->bytes_after, report->bytes_before);
      EXPECT_EQ(fs::exists(out() / "model.safetensors"), shard_bytes > 20'000);
      auto ahead = load_out();
      ASSERT_TRUE(ahead.ok()) << ahead.status();
      EXPECT_EQ((*ahead)->info().quantization, format);
      EXPECT_EQ((*ahead)->info().weight_bytes, on_load->info().weight_bytes);
      EXPECT_EQ(logits_of(ahead->get()), logits_of(on_load.get())) << format;
    }
  }
}

// A head that is the embedding table: its copy is quantised, the table stays as it was.
TEST_F(QuantizationTest, ATiedHeadIsTheSameAheadAndOnLoad) {
  Json config = tiny_config("deepseek_v3");
  config["tie_word_embeddings"] = true;
  const TinyCheckpoint tied(config, 22, DType::kBFloat16);
  for (const char* format : kFormats) {
    fs::remove_all(out());
    const auto report = quantize_checkpoint(tied.folder(), out(), {.format = format, .threads = 2});
    ASSERT_TRUE(report.ok()) << report.status();
    const auto on_load = tied.load(DType::kBFloat16, 1, format);
    ASSERT_NE(on_load, nullptr);
    auto ahead = load_out();
    ASSERT_TRUE(ahead.ok()) << ahead.status();
    EXPECT_EQ((*ahead)->info().weight_bytes, on_load->info().weight_bytes);
    EXPECT_EQ(logits_of(ahead->get()), logits_of(on_load.get())) << format;
  }
}

TEST_F(QuantizationTest, FloatsComeBackInFloat32AndWithNone) {
  for (const char* format : kFormats) {
    ASSERT_TRUE(quantize(format).ok());
    for (const auto& [dtype, option] : {std::pair{"float32", "auto"}, {"bfloat16", "none"}}) {
      auto model = load_out(option, dtype);
      ASSERT_TRUE(model.ok()) << model.status();
      EXPECT_EQ((*model)->info().quantization, "none");
      for (const float logit : logits_of(model->get()).back()) EXPECT_TRUE(std::isfinite(logit));
    }
  }
}

TEST_F(QuantizationTest, OneFormatCanFollowAnother) {
  ASSERT_TRUE(quantize("fp8").ok());
  const fs::path again = out().string() + "_again";
  fs::remove_all(again);
  const auto same = quantize_checkpoint(out(), again, {.format = "fp8", .threads = 1});
  EXPECT_THAT(std::string(same.status().message()), HasSubstr("which the checkpoint is in"));
  const auto report = quantize_checkpoint(out(), again, {.format = "int4", .threads = 1});
  ASSERT_TRUE(report.ok()) << report.status();
  auto ahead = load_model(again, {.dtype = "bfloat16", .threads = 1});
  ASSERT_TRUE(ahead.ok()) << ahead.status();
  auto on_load = load_out("int4");
  ASSERT_TRUE(on_load.ok()) << on_load.status();
  EXPECT_EQ(logits_of(ahead->get()), logits_of(on_load->get()));
  fs::remove_all(again);
}

TEST_F(QuantizationTest, WrongOptionsAreNamed) {
  for (const auto& [dtype, option, what] :
       {std::tuple{"bfloat16", "int3", "quantization is \"int3\"; accepted: auto, none, int8"},
        {"float32", "int8", "dtype is float32"}}) {
    const auto model =
        load_model(source_.folder(), {.dtype = dtype, .quantization = option, .threads = 1});
    ASSERT_FALSE(model.ok());
    EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(model.status().message()), HasSubstr(what));
  }
  EXPECT_EQ(quantize("int5").status().code(), absl::StatusCode::kInvalidArgument);
  fs::create_directories(out() / "something");
  const auto full = quantize_checkpoint(source_.folder(), out(), {.format = "int8"});
  EXPECT_THAT(std::string(full.status().message()), HasSubstr("is not empty"));
}

TEST_F(QuantizationTest, FilesThatDontFitAreRefused) {
  const std::string name = "model.layers.1.mlp.experts.2.down_proj.weight";
  ASSERT_TRUE(quantize("int8").ok());
  change(name + "_scale", [](loader::TensorView* scales) { scales->bytes = {}; });
  expect_refused("missing: \"" + name + "_scale\"", absl::StatusCode::kInvalidArgument);

  ASSERT_TRUE(quantize("int8-g128").ok());
  change(name + "_scale", [](loader::TensorView* scales) {
    std::reverse(scales->shape.begin(), scales->shape.end());
  });
  expect_refused(name + "_scale\": expected float32 [40, 1], found float32 [1, 40]",
                 absl::StatusCode::kInvalidArgument);

  ASSERT_TRUE(quantize("int4").ok());
  change(name, [](loader::TensorView* codes) { codes->shape = {20, 24}; });
  expect_refused(name, absl::StatusCode::kInvalidArgument);
}

TEST_F(QuantizationTest, CodesAndScalesThatAreNoNumbersAreRefused) {
  const std::string name = "model.layers.0.self_attn.o_proj.weight";
  std::vector<std::byte> bytes;
  const auto put = [&](size_t at, std::initializer_list<int> values) {
    return [&bytes, at, values](loader::TensorView* tensor) {
      bytes.assign(tensor->bytes.begin(), tensor->bytes.end());
      size_t i = at;
      for (const int value : values) bytes[i++] = std::byte(value);
      tensor->bytes = bytes;
    };
  };
  ASSERT_TRUE(quantize("fp8").ok());
  change(name, put(65, {0xff}));  // row 2 of 30 columns
  expect_refused("tensor " + name + ": row 2 holds a NaN", absl::StatusCode::kDataLoss);
  ASSERT_TRUE(quantize("int8").ok());
  change(name, put(31, {0x80}));
  expect_refused("tensor " + name + ": row 1 holds the code -128", absl::StatusCode::kDataLoss);
  ASSERT_TRUE(quantize("int4").ok());
  change(name + "_scale", put(4, {0, 0, 0x80, 0x7f}));  // infinity
  expect_refused("tensor " + name + ": scale 1 is not finite", absl::StatusCode::kDataLoss);
}

TEST_F(QuantizationTest, AValueThatIsNoNumberCantBeQuantised) {
  ASSERT_TRUE(quantize("int8").ok());  // for the folder
  for (const auto& entry : fs::directory_iterator(source_.folder())) {
    fs::copy_file(entry.path(), out() / entry.path().filename(),
                  fs::copy_options::overwrite_existing);
  }
  std::vector<std::byte> bytes;
  change("model.layers.0.self_attn.o_proj.weight", [&](loader::TensorView* tensor) {
    bytes.assign(tensor->bytes.begin(), tensor->bytes.end());
    bytes[200] = std::byte{0x80};
    bytes[201] = std::byte{0x7f};  // infinity
    tensor->bytes = bytes;
  });
  for (const char* format : kFormats) {
    const auto model = load_out(format);
    ASSERT_FALSE(model.ok()) << format;
    EXPECT_EQ(model.status().code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(model.status().message()), HasSubstr("o_proj.weight"));
  }
}

TEST_F(QuantizationTest, OtherQuantizationConfigsAreRefused) {
  ASSERT_TRUE(quantize("fp8").ok());
  set_config({{"quant_method", "awq"}});
  expect_refused("quantization_config.quant_method is", absl::StatusCode::kUnimplemented);
  set_config({{"quant_method", "fp8"}, {"weight_block_size", {64, 64}}});
  expect_refused("weight_block_size is \"[64,64]\"; accepted: [128, 128]",
                 absl::StatusCode::kInvalidArgument);
  set_config({{"quant_method", "fp8"}, {"weight_block_size", {128, 128}}, {"fmt", "e5m2"}});
  expect_refused("accepted: \"e4m3\"", absl::StatusCode::kInvalidArgument);
  set_config({{"quant_method", "mole"}, {"format", "int3"}});
  expect_refused("accepted: \"int8\", \"int8-g128\"", absl::StatusCode::kInvalidArgument);
  set_config("fp8");
  expect_refused("must be an object", absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mole::model::testing
