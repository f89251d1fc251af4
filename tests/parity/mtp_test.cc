// The multi-token-prediction module against a PyTorch reference (tests/golden/mtp_reference.py),
// and what it must never do: move a bit of the model's own output.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "model/registry.h"
#include "tests/model/step_driver.h"
#include "tests/parity/golden.h"

namespace mole::model::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kGolden[] = "deepseek_v3_mtp";
constexpr float kLogprobBound = 1e-4f;  // as tests/parity/logits_test.cc
constexpr int32_t kBlocks = 4;

using Rows = std::vector<std::vector<float>>;

/// One sequence through forward and draft, every row's logits wanted.
class MtpDriver {
 public:
  explicit MtpDriver(Model* model)
      : model_(*model),
        cache_({.num_layers = model->info().cache_layers(),
                .num_blocks = kBlocks,
                .entry_elements = model->info().kv_entry_elements,
                .dtype = model->info().dtype}),
        block_table_(kBlocks) {
    std::iota(block_table_.rbegin(), block_table_.rend(), 0);
  }

  Rows forward(std::span<const TokenId> ids, int32_t first) {
    StepOutput output;
    const Status status = model_.forward(step(ids, first), cache_, &output);
    EXPECT_TRUE(status.ok()) << status;
    return split(output);
  }

  /// `ids` follow rows [row, row + ids) of the call before.
  Rows draft(std::span<const TokenId> ids, int32_t first, int32_t row, DraftSource source) {
    rows_.resize(ids.size());
    std::iota(rows_.begin(), rows_.end(), row);
    StepOutput output;
    const Status status =
        model_.draft({.step = step(ids, first), .rows = rows_, .source = source}, cache_, &output);
    EXPECT_TRUE(status.ok()) << status;
    return split(output);
  }

 private:
  StepInput step(std::span<const TokenId> ids, int32_t first) {
    const auto count = static_cast<int32_t>(ids.size());
    positions_.resize(ids.size());
    std::iota(positions_.begin(), positions_.end(), first);
    logit_rows_.resize(ids.size());
    std::iota(logit_rows_.begin(), logit_rows_.end(), 0);
    starts_ = {0, count};
    return {.token_ids = ids,
            .positions = positions_,
            .sequence_starts = starts_,
            .forms = forms_,
            .block_tables = block_table_,
            .blocks_per_sequence = kBlocks,
            .logit_rows = logit_rows_};
  }

  Rows split(const StepOutput& output) const {
    const auto vocab = static_cast<size_t>(model_.info().vocab_size);
    Rows rows;
    for (size_t first = 0; first < output.logits.size(); first += vocab) {
      const auto row = output.logits.subspan(first, vocab);
      rows.emplace_back(row.begin(), row.end());
    }
    return rows;
  }

  Model& model_;
  KvCache cache_;
  std::vector<int32_t> block_table_, positions_, logit_rows_, starts_, rows_;
  std::vector<AttentionForm> forms_{AttentionForm::kExpanded};
};

std::unique_ptr<Model> load(bool mtp) {
  auto model = load_model(golden_folder(kGolden), {.dtype = "float32", .threads = 2, .mtp = mtp});
  EXPECT_TRUE(model.ok()) << model.status();
  return model.ok() ? std::move(*model) : nullptr;
}

void expect_log_probabilities(const std::vector<float>& logits, const Json& want,
                              const std::string& what) {
  ASSERT_EQ(logits.size(), want.size()) << what;
  for (size_t id = 0; id < logits.size(); ++id) {
    EXPECT_NEAR(log_probability(logits, static_cast<TokenId>(id)), want[id].get<float>(),
                kLogprobBound)
        << what << ", token " << id;
  }
}

TEST(Mtp, DraftsAgreeWithTheReference) {
  const auto model = load(true);
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->info().num_mtp_layers, 1);
  int tried = 0;
  const Json expected = golden_expected(kGolden);
  for (const Json& prompt : expected["prompts"]) {
    if (!prompt.contains("mtp")) continue;
    ++tried;
    const Json& want = prompt["mtp"];
    const auto ids = prompt["token_ids"].get<std::vector<TokenId>>();
    const auto last = static_cast<int32_t>(ids.size()) - 2;  // the last row whose next is known
    MtpDriver driver(model.get());
    driver.forward(ids, 0);
    const Rows first = driver.draft(std::span(ids).subspan(1), 0, 0, DraftSource::kForward);
    for (size_t i = 0; i + 2 < ids.size(); ++i) {
      EXPECT_NEAR(log_probability(first[i], ids[i + 2]), want["logprobs"][i].get<float>(),
                  kLogprobBound)
          << "row " << i << " of " << ids.size();
    }
    expect_log_probabilities(first.back(), want["last_logprobs"], "first draft");
    const TokenId draft = want["draft"].get<TokenId>();
    const Rows second = driver.draft({&draft, 1}, last + 1, last, DraftSource::kDraft);
    expect_log_probabilities(second.back(), want["second_logprobs"], "second draft");
  }
  EXPECT_EQ(tried, 2);
}

TEST(Mtp, MovesNoBitAndDoesNotSeeHowThePromptWasCut) {
  const auto plain = load(false), with = load(true);
  ASSERT_TRUE(plain != nullptr && with != nullptr);
  EXPECT_EQ(plain->info().num_mtp_layers, 0);
  const auto ids =
      golden_expected(kGolden)["prompts"].back()["token_ids"].get<std::vector<TokenId>>();
  const std::span<const TokenId> all(ids);
  const auto next = all.subspan(1);
  MtpDriver without(plain.get()), whole(with.get()), cut(with.get());
  const Rows want = without.forward(all, 0);
  EXPECT_EQ(want, whole.forward(all, 0));
  const Rows drafts = whole.draft(next, 0, 0, DraftSource::kForward);
  Rows rows, cut_drafts;
  for (size_t first = 0, count = 1; first < ids.size(); first += count, count += 13) {
    count = std::min(count, ids.size() - first);
    const size_t known = std::min(count, next.size() - first);  // the last row has no next token
    for (auto& row : cut.forward(all.subspan(first, count), static_cast<int32_t>(first))) {
      rows.push_back(std::move(row));
    }
    for (auto& row : cut.draft(next.subspan(first, known), static_cast<int32_t>(first), 0,
                               DraftSource::kForward)) {
      cut_drafts.push_back(std::move(row));
    }
  }
  EXPECT_EQ(want, rows);
  EXPECT_EQ(drafts, cut_drafts);
}

TEST(Mtp, WithoutAModuleLoadingAndDraftingAreRefused) {
  const auto without = load_model(golden_folder("deepseek_v3_no_q_lora"), {.mtp = true});
  EXPECT_EQ(without.status().code(), absl::StatusCode::kInvalidArgument) << without.status();
  EXPECT_THAT(std::string(without.status().message()), HasSubstr("num_nextn_predict_layers"));
  const auto mixtral = load_model(golden_folder("mixtral_gqa"), {.mtp = true});
  EXPECT_EQ(mixtral.status().code(), absl::StatusCode::kInvalidArgument) << mixtral.status();
  EXPECT_THAT(std::string(mixtral.status().message()), HasSubstr("model_type"));
  const auto plain = load(false);
  ASSERT_NE(plain, nullptr);
  KvCache cache({.num_layers = plain->info().num_layers,
                 .num_blocks = 1,
                 .entry_elements = plain->info().kv_entry_elements,
                 .dtype = plain->info().dtype});
  StepOutput output;
  EXPECT_EQ(plain->draft({}, cache, &output).code(), absl::StatusCode::kUnimplemented);
}

TEST(Mtp, ARowThatIsNotOfTheCallBeforeIsRefused) {
  const auto model = load(true);
  ASSERT_NE(model, nullptr);
  KvCache cache({.num_layers = model->info().cache_layers(),
                 .num_blocks = 1,
                 .entry_elements = model->info().kv_entry_elements,
                 .dtype = model->info().dtype});
  const std::vector<TokenId> ids{1};
  const std::vector<int32_t> positions{0}, starts{0, 1}, table{0}, rows{0};
  const std::vector<AttentionForm> forms{AttentionForm::kExpanded};
  StepOutput output;
  const Status status = model->draft({.step = {.token_ids = ids,
                                               .positions = positions,
                                               .sequence_starts = starts,
                                               .forms = forms,
                                               .block_tables = table,
                                               .blocks_per_sequence = 1,
                                               .logit_rows = {}},
                                      .rows = rows},
                                     cache, &output);
  EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
}

}  // namespace
}  // namespace mole::model::testing
