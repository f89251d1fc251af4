#include <gtest/gtest.h>

#include "model/registry.h"
#include "tests/model/tiny_models.h"

namespace mole::model::testing {
namespace {

/// What is planned from headers is what a load says it took, whatever the weights become.
void expect_planned(const std::string& architecture, DType dtype, const std::string& quantization) {
  SCOPED_TRACE(architecture + " " + std::string(dtype_name(dtype)) + " " + quantization);
  const TinyCheckpoint checkpoint(tiny_config(architecture), 5, DType::kBFloat16);
  const LoadOptions options{
      .dtype = std::string(dtype_name(dtype)), .quantization = quantization, .threads = 1};
  const auto plan = plan_load(checkpoint.folder(), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  const auto model = load_model(checkpoint.folder(), options);
  ASSERT_TRUE(model.ok()) << model.status();
  const ModelInfo& info = (*model)->info();
  EXPECT_EQ(plan->info.weight_bytes, info.weight_bytes);
  EXPECT_EQ(plan->info.num_parameters, info.num_parameters);
  EXPECT_EQ(plan->info.kv_entry_elements, info.kv_entry_elements);
  EXPECT_EQ(plan->info.quantization, info.quantization);
  EXPECT_EQ(plan->info.eos_token_ids, info.eos_token_ids);
  EXPECT_GT(plan->checkpoint_bytes, 0);
  EXPECT_GT(plan->table_bytes, 0);
  EXPECT_GT(plan->workspace.bytes({.tokens = 16, .context = 64, .sequences = 4}), 0);
}

TEST(LoadPlan, SaysWhatALoadTakes) {
  for (const char* architecture : {"deepseek_v3", "deepseek_v2", "mixtral"}) {
    expect_planned(architecture, DType::kFloat32, "auto");
    expect_planned(architecture, DType::kBFloat16, "auto");
    for (const char* quantization : {"int8", "int4", "fp8"}) {
      expect_planned(architecture, DType::kBFloat16, quantization);
    }
  }
}

TEST(LoadPlan, RefusesWhatALoadRefuses) {
  EXPECT_EQ(plan_load("/nowhere/at/all", {}).status().code(), absl::StatusCode::kNotFound);
  Json config = tiny_config("deepseek_v3");
  const TinyCheckpoint checkpoint(config, 5, DType::kFloat32);
  EXPECT_EQ(plan_load(checkpoint.folder(), {.quantization = "int3"}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mole::model::testing
