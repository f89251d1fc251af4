#include "runtime/ngram_index.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/draft_record.h"
#include "runtime/limits.h"
#include "tests/sim/sim_random.h"

namespace mole::runtime {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

std::vector<TokenId> propose(const std::vector<TokenId>& tokens, NgramOptions options,
                             int32_t count) {
  NgramIndex index(options, tokens.size());
  index.extend(tokens);
  std::vector<TokenId> drafts;
  index.propose(tokens, count, &drafts);
  return drafts;
}

TEST(NgramIndexTest, WhatFollowedBeforeIsProposed) {
  EXPECT_THAT(propose({1, 2, 3, 4, 5, 1, 2}, {.min = 2, .max = 4}, 3), ElementsAre(3, 4, 5));
  EXPECT_THAT(propose({1, 2, 3, 4, 5, 9, 2}, {.min = 2, .max = 4}, 3), IsEmpty());
  EXPECT_THAT(propose({7}, {.min = 2, .max = 4}, 3), IsEmpty());
  EXPECT_THAT(propose({7, 7}, {.min = 2, .max = 4}, 3), IsEmpty());
}

TEST(NgramIndexTest, TheLongestMatchWinsThenTheNewest) {
  EXPECT_THAT(propose({8, 1, 2, 5, 9, 1, 2, 6, 8, 1, 2}, {.min = 2, .max = 3}, 1), ElementsAre(5));
  EXPECT_THAT(propose({8, 1, 2, 5, 9, 1, 2, 6, 7, 1, 2}, {.min = 2, .max = 3}, 1), ElementsAre(6));
}

TEST(NgramIndexTest, ADraftGoesOnFromItself) {
  EXPECT_THAT(propose({4, 5, 4, 5}, {.min = 2, .max = 2}, 5), ElementsAre(4, 5, 4, 5, 4));
}

TEST(NgramIndexTest, OffProposesNothing) {
  NgramIndex index;
  std::vector<TokenId> drafts;
  index.extend(std::vector<TokenId>{1, 2, 1, 2});
  index.propose(std::vector<TokenId>{1, 2, 1, 2}, 3, &drafts);
  EXPECT_THAT(drafts, IsEmpty());
}

// The same rule by comparing every place.
std::vector<TokenId> propose_slowly(const std::vector<TokenId>& tokens, NgramOptions options) {
  const auto size = static_cast<int32_t>(tokens.size());
  int32_t best = 0, best_length = 0, places = 0;
  for (int32_t end = size - 1; end >= options.min && places < kNgramPlacesMax; --end) {
    int32_t length = 0;
    while (length < options.max && length < end &&
           tokens[static_cast<size_t>(end - 1 - length)] ==
               tokens[static_cast<size_t>(size - 1 - length)]) {
      ++length;
    }
    if (length < options.min) continue;
    ++places;
    if (length > best_length) best = end, best_length = length;
  }
  return best == 0 ? std::vector<TokenId>{}
                   : std::vector<TokenId>{tokens[static_cast<size_t>(best)]};
}

TEST(NgramIndexTest, AgreesWithASearchOfEveryPlaceAtEveryToken) {
  sim::SimRandom random(5);
  for (int round = 0; round < 200; ++round) {
    const NgramOptions options{.min = random.between(1, 3), .max = random.between(3, 5)};
    const int32_t size = random.between(1, 120), kinds = random.between(2, 6);
    NgramIndex index(options, static_cast<size_t>(size));
    std::vector<TokenId> tokens, drafts;
    for (int32_t i = 0; i < size; ++i) {
      tokens.push_back(random.between(0, kinds));
      index.extend(tokens);
      drafts.clear();
      index.propose(tokens, 1, &drafts);
      ASSERT_EQ(drafts, propose_slowly(tokens, options)) << "round " << round << ", token " << i;
    }
  }
}

TEST(DraftRecordTest, FollowsWhatIsAcceptedAndAsksForAnotherTry) {
  DraftRecord record;
  EXPECT_EQ(record.rate(), 0.5);
  for (int i = 1; i <= 20; ++i) record.note(4, 4, 5 * i);
  EXPECT_GT(record.rate(), 0.9);
  for (int i = 1; i <= 40; ++i) record.note(4, 0, 100 + i);
  EXPECT_LT(record.rate(), 0.15);
  EXPECT_FALSE(record.probe_due(141));
  EXPECT_TRUE(record.probe_due(140 + 32));
}

}  // namespace
}  // namespace mole::runtime
