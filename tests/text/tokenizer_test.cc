#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "tests/text/text_fixtures.h"

namespace mole::text {
namespace {

using Ids = std::vector<TokenId>;

class Golden : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(All, Golden, testing::ValuesIn(kGoldenNames),
                         [](const auto& one) { return one.param; });

TEST_P(Golden, EncodesAsPythonTokenizersDoes) {
  const auto tokenizer = load_golden(GetParam());
  ASSERT_TRUE(tokenizer);
  const Json cases = golden_cases(golden_folder(GetParam()) / "cases.json");
  EXPECT_EQ(tokenizer->vocab_size(), cases["vocab_size"].get<int32_t>());
  for (const Json& one : cases["encode"]) {
    const auto text = one["text"].get<std::string>();
    SCOPED_TRACE(text);
    const auto with = tokenizer->encode(text, {});
    ASSERT_TRUE(with.ok()) << with.status();
    EXPECT_EQ(*with, one["ids"].get<Ids>());
    const auto without = tokenizer->encode(text, {.add_special_tokens = false});
    ASSERT_TRUE(without.ok()) << without.status();
    EXPECT_EQ(*without, one["ids_without_special"].get<Ids>());
  }
}

TEST_P(Golden, DecodesAsPythonTokenizersDoes) {
  const auto tokenizer = load_golden(GetParam());
  ASSERT_TRUE(tokenizer);
  for (const Json& one : golden_cases(golden_folder(GetParam()) / "cases.json")["decode"]) {
    const auto ids = one["ids"].get<Ids>();
    SCOPED_TRACE(one["ids"].dump());
    EXPECT_EQ(tokenizer->decode(ids, false).value(), one["text"].get<std::string>());
    EXPECT_EQ(tokenizer->decode(ids, true).value(), one["text_without_special"].get<std::string>());
  }
}

TEST_P(Golden, GivesNoControlTokenToTextOfUsers) {
  const auto tokenizer = load_golden(GetParam());
  ASSERT_TRUE(tokenizer);
  std::string text = "hi";
  for (TokenId id = 0; id < tokenizer->vocab_size(); ++id) {
    if (tokenizer->is_special(id)) text += " " + tokenizer->token_spelling(id) + "x";
  }
  text += "<｜User｜>";
  const auto user = tokenizer->token_to_id("<｜User｜>");
  const auto unk = tokenizer->token_to_id("<unk>");
  for (const std::string& part : {text, std::string("<s>"), std::string("<|end|>")}) {
    const auto ids =
        tokenizer->encode(part, {.add_special_tokens = false, .parse_special_tokens = false});
    ASSERT_TRUE(ids.ok()) << ids.status();
    for (const TokenId id : *ids) {
      // The unknown token stands for what the vocabulary can't spell; it is no control token here.
      if (id == unk || tokenizer->token_spelling(id) == "[UNK]") continue;
      EXPECT_FALSE(tokenizer->is_special(id)) << part << " gave " << tokenizer->token_spelling(id);
      EXPECT_NE(std::optional<TokenId>(id), user);
    }
  }
}

TEST(Tokenizer, SpellsControlTokensOfUsersOut) {
  const auto tokenizer = load_golden("byte_level_bpe");
  const EncodeOptions user{.add_special_tokens = false, .parse_special_tokens = false};
  const auto ids = tokenizer->encode("a<|end|>b<s>", user);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(tokenizer->decode(*ids, true).value(), "a<|end|>b<s>");
  // Everything else is encoded as without the switch.
  EXPECT_EQ(tokenizer->encode("The mole digs.", user).value(),
            tokenizer->encode("The mole digs.", {.add_special_tokens = false}).value());
}

TEST(Tokenizer, StillAddsSpecialTokensOfItsOwnToTextOfUsers) {
  const auto tokenizer = load_golden("byte_level_bpe");
  const auto ids = tokenizer->encode("a", {.parse_special_tokens = false});
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(ids->front(), tokenizer->token_to_id("<s>"));
}

TEST(Tokenizer, KnowsTheBytesOfItsTokens) {
  const auto bytes = load_golden("byte_level_bpe");
  const auto space_mole = bytes->token_to_id("Ġmole");
  ASSERT_TRUE(space_mole.has_value());
  EXPECT_EQ(bytes->token_bytes(*space_mole), " mole");
  EXPECT_EQ(bytes->token_spelling(*space_mole), "Ġmole");
  for (int byte = 0, found = 0; byte < 256; ++byte) {
    for (TokenId id = 0; id < bytes->vocab_size(); ++id) {
      found += bytes->token_bytes(id) == std::string(1, static_cast<char>(byte));
    }
    EXPECT_EQ(found, byte + 1) << "byte " << byte;
  }
  const auto fallback = load_golden("byte_fallback_bpe");
  EXPECT_EQ(fallback->token_bytes(fallback->token_to_id("<0x0A>").value()), "\n");
  EXPECT_EQ(fallback->token_bytes(fallback->token_to_id("<0xFF>").value()), "\xFF");
  EXPECT_EQ(fallback->token_bytes(fallback->token_to_id("▁the").value()), " the");
  const auto unigram = load_golden("metaspace_unigram");
  EXPECT_EQ(unigram->token_bytes(unigram->token_to_id("▁the").value()), " the");
}

TEST(Tokenizer, AnswersUnknownIdsWithNothing) {
  const auto tokenizer = load_golden("word_level");
  for (const TokenId id : {-1, tokenizer->vocab_size(), INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tokenizer->token_bytes(id), "");
    EXPECT_EQ(tokenizer->token_spelling(id), "");
    EXPECT_FALSE(tokenizer->is_special(id));
    const auto text = tokenizer->decode({id}, false);
    EXPECT_EQ(text.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(text.status().message().find(std::to_string(id)), std::string::npos) << text.status();
  }
  EXPECT_FALSE(tokenizer->token_to_id("no such token").has_value());
  EXPECT_FALSE(tokenizer->token_to_id("\xFF").has_value());
  EXPECT_EQ(tokenizer->decode({}, false).value(), "");
}

TEST(Tokenizer, RefusesTextThatIsNotUtf8) {
  const auto tokenizer = load_golden("byte_level_bpe");
  for (const char* text : {"\x80", "ab\xC0\xAF", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xE2\x82"}) {
    const auto ids = tokenizer->encode(text, {});
    EXPECT_EQ(ids.status().code(), absl::StatusCode::kInvalidArgument) << text;
  }
}

TEST(Tokenizer, GivesTheSameIdsToManyThreads) {
  const auto tokenizer = load_golden("byte_level_bpe");
  const std::string text = contents("tests/text/make_goldens.py").substr(0, 4000);
  const Ids alone = tokenizer->encode(text, {}).value();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&, thread] {
      const EncodeOptions options{.parse_special_tokens = thread % 2 == 0};
      for (int i = 0; i < 10; ++i) {
        const Ids ids = tokenizer->encode(text, options).value();
        if (options.parse_special_tokens) {
          EXPECT_EQ(ids, alone);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Tokenizer, EncodesLongInputsOfEveryKind) {
  const std::vector<std::pair<const char*, std::string>> units = {
      {"one letter", "a"},   {"spaces", " "},         {"newlines", "\n"}, {"marks", "\u0301"},
      {"ideographs", "漢"},  {"digits", "7"},         {"special", "<s>"}, {"words", "the mole "},
      {"punctuation", "!?"}, {"half a special", "<|"}};
  const size_t bytes = from_environment("MOLE_TEXT_LONG_BYTES", size_t{128} << 10);
  for (const char* name :
       {"byte_level_bpe", "split_regex_bpe", "byte_fallback_bpe", "metaspace_unigram"}) {
    const auto tokenizer = load_golden(name);
    for (const auto& [what, unit] : units) {
      std::string text;
      while (text.size() < bytes) text += unit;
      const std::clock_t begin = std::clock();
      const auto ids = tokenizer->encode(text, {.parse_special_tokens = false});
      const double seconds = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
      ASSERT_TRUE(ids.ok()) << name << ", " << what << ": " << ids.status();
      RecordProperty(std::string(name) + "_" + what, std::to_string(seconds));
      if (std::getenv("MOLE_TEXT_LONG_BYTES")) {
        std::printf("%-20s %-16s %8zu ids %.3f s\n", name, what, ids->size(), seconds);
      }
    }
  }
}

}  // namespace
}  // namespace mole::text
