#include "runtime/batch_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/runtime/test_requests.h"

namespace mole::runtime {
namespace {

using model::AttentionForm;
using ::testing::ElementsAre;

TEST(BatchBuilderTest, FlattensAPlan) {
  auto prompt = make_test_request({.prompt = counting(130), .max_tokens = 1});
  auto decode = make_test_request({.prompt = {40, 41, 42}, .max_tokens = 9});
  prompt->sequences[0].blocks = {BlockId{4}, BlockId{2}, BlockId{7}};
  decode->sequences[0].blocks = {BlockId{5}};
  StepPlan plan;
  plan.chunks.push_back({.sequence = &decode->sequences[0],
                         .first = 2,
                         .count = 1,
                         .form = AttentionForm::kAbsorbed,
                         .logits_first = 2,
                         .num_logits = 1,
                         .samples = true});
  plan.chunks.push_back({.sequence = &prompt->sequences[0],
                         .first = 64,
                         .count = 3,
                         .form = AttentionForm::kExpanded,
                         .logits_first = 65,
                         .num_logits = 2,
                         .samples = false});
  plan.num_tokens = 4;
  plan.num_logit_rows = 3;

  BatchBuilder builder(
      {.max_tokens = 4, .max_sequences = 2, .max_logit_rows = 3, .max_blocks_per_sequence = 3});
  const model::StepInput input = builder.build(plan);
  EXPECT_THAT(input.token_ids, ElementsAre(42, 64, 65, 66));
  EXPECT_THAT(input.positions, ElementsAre(2, 64, 65, 66));
  EXPECT_THAT(input.sequence_starts, ElementsAre(0, 1, 4));
  EXPECT_THAT(input.forms, ElementsAre(AttentionForm::kAbsorbed, AttentionForm::kExpanded));
  EXPECT_EQ(input.blocks_per_sequence, 3);
  EXPECT_THAT(input.block_tables, ElementsAre(5, -1, -1, 4, 2, 7));
  EXPECT_THAT(input.logit_rows, ElementsAre(0, 2, 3));
}

TEST(BatchBuilderDeathTest, APlanBeyondItsBoundsIsABug) {
  BatchBuilder builder(
      {.max_tokens = 4, .max_sequences = 2, .max_logit_rows = 3, .max_blocks_per_sequence = 3});
  StepPlan plan;
  plan.num_tokens = 5;
  EXPECT_DEATH(builder.build(plan), "5 vs 4");
}

}  // namespace
}  // namespace mole::runtime
