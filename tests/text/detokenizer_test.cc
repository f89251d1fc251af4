#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/utf8.h"
#include "tests/text/text_fixtures.h"

namespace mole::text {
namespace {

using Ids = std::vector<TokenId>;

std::string stream(const std::shared_ptr<const Tokenizer>& tokenizer, const Ids& ids, bool skip) {
  Detokenizer detokenizer(tokenizer, skip);
  std::string all;
  for (const TokenId id : ids) {
    const std::string piece = detokenizer.push(id);
    EXPECT_TRUE(is_valid_utf8(piece));
    all += piece;
  }
  const std::string rest = detokenizer.finish();
  EXPECT_TRUE(is_valid_utf8(rest));
  return all + rest;
}

class GoldenStream : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, GoldenStream, testing::ValuesIn(kGoldenNames),
                         [](const auto& one) { return one.param; });

TEST_P(GoldenStream, PiecesTogetherAreTheDecodedText) {
  const auto tokenizer = load_golden(GetParam());
  ASSERT_TRUE(tokenizer);
  Random random;
  SCOPED_TRACE(random.trace());
  const size_t vocab_size = static_cast<size_t>(tokenizer->vocab_size());
  // Ids of single bytes come up far more often than in the vocabulary: they make and break code
  // points.
  Ids bytes;
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    if (tokenizer->token_bytes(id).size() == 1) bytes.push_back(id);
  }
  const uint64_t rounds = from_environment("MOLE_TEXT_ROUNDS", 3000);
  for (uint64_t round = 0; round < rounds; ++round) {
    Ids ids(random.below(16));
    for (TokenId& id : ids) {
      id = !bytes.empty() && random.below(2) == 0 ? bytes[random.below(bytes.size())]
                                                  : static_cast<TokenId>(random.below(vocab_size));
    }
    for (const bool skip : {false, true}) {
      const auto whole = tokenizer->decode(ids, skip);
      ASSERT_TRUE(whole.ok()) << whole.status();
      ASSERT_EQ(stream(tokenizer, ids, skip), *whole)
          << testing::PrintToString(ids) << " skip " << skip;
    }
  }
}

TEST_P(GoldenStream, BringsTextBackAsDecodeDoes) {
  const auto tokenizer = load_golden(GetParam());
  ASSERT_TRUE(tokenizer);
  for (const Json& one : golden_cases(golden_folder(GetParam()) / "cases.json")["encode"]) {
    const Ids ids = one["ids"].get<Ids>();
    EXPECT_EQ(stream(tokenizer, ids, true), tokenizer->decode(ids, true).value());
  }
}

TEST(Detokenizer, HoldsBytesBackUntilTheCodePointIsWhole) {
  const auto tokenizer = load_golden("byte_level_bpe");
  Ids ids;
  for (const char byte : std::string("🙂")) {
    for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
      if (tokenizer->token_bytes(id) == std::string(1, byte)) ids.push_back(id);
    }
  }
  ASSERT_EQ(ids.size(), 4u);
  Detokenizer detokenizer(tokenizer, true);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(detokenizer.push(ids[i]), "");
  EXPECT_EQ(detokenizer.push(ids[3]), "🙂");
  EXPECT_EQ(detokenizer.push(ids[0]), "");
  EXPECT_EQ(detokenizer.finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, SendsTextAsSoonAsItIsKnown) {
  const auto tokenizer = load_golden("byte_fallback_bpe");
  const TokenId the = tokenizer->token_to_id("▁the").value();
  Detokenizer detokenizer(tokenizer, true);
  EXPECT_EQ(detokenizer.push(the), "the");
  EXPECT_EQ(detokenizer.push(the), " the");
  EXPECT_EQ(detokenizer.push(tokenizer->token_to_id("<0xC3>").value()), "");
  EXPECT_EQ(detokenizer.push(tokenizer->token_to_id("<0xA9>").value()), "");
  EXPECT_EQ(detokenizer.push(the), "é the");
  EXPECT_EQ(detokenizer.finish(), "");
}

TEST(Detokenizer, PassesIdsWithoutTokenOver) {
  const auto tokenizer = load_golden("byte_level_bpe");
  Detokenizer detokenizer(tokenizer, true);
  EXPECT_EQ(detokenizer.push(-1), "");
  EXPECT_EQ(detokenizer.push(tokenizer->vocab_size()), "");
  EXPECT_EQ(detokenizer.push(tokenizer->token_to_id("<s>").value()), "");
  EXPECT_EQ(detokenizer.push(tokenizer->token_to_id("a").value()), "a");
}

}  // namespace
}  // namespace mole::text
