#include "text/tokenizer_trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/text/text_fixtures.h"
#include "text/detokenizer.h"

namespace mole::text {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kTexts = {"",
                                         " ",
                                         "  two leading",
                                         "trailing  ",
                                         "The mole digs.",
                                         "new\nlines\n\n\n",
                                         "tab\tand\r\n",
                                         "naïve café",
                                         "日本語",
                                         "🙂👩‍👩‍👧",
                                         "<0x41>",
                                         std::string("nul\0byte", 8),
                                         "MiXeD 12345"};

class Trained : public testing::TestWithParam<TokenizerKind> {
 protected:
  TokenizerTrainOptions options() const {
    return {.kind = GetParam(),
            .vocab_size = 600,
            .special_tokens = {"<s>", "</s>", "<pad>"},
            .bos_token = "<s>"};
  }
  Status train(const TokenizerTrainOptions& options) const {
    return train_tokenizer({"tests/text/make_goldens.py", "tests/text/tokenizer_test.cc"}, options,
                           folder_.path() / "tokenizer.json");
  }
  std::string file() const { return contents(folder_.path() / "tokenizer.json"); }

  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Kinds, Trained,
                         testing::Values(TokenizerKind::kByteLevelBpe, TokenizerKind::kUnigram),
                         [](const auto& one) {
                           return one.param == TokenizerKind::kUnigram ? "Unigram" : "Bpe";
                         });

TEST_P(Trained, LoadsAndBringsEveryTextBack) {
  ASSERT_TRUE(train(options()).ok());
  const auto loaded = Tokenizer::load(folder_.path());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const Tokenizer& tokenizer = **loaded;
  EXPECT_GT(tokenizer.vocab_size(), 300);
  EXPECT_LE(tokenizer.vocab_size(), 600);
  EXPECT_EQ(tokenizer.token_to_id("<s>"), 0);
  EXPECT_EQ(tokenizer.token_to_id("</s>"), 1);
  EXPECT_EQ(tokenizer.token_to_id("<pad>"), 2);
  EXPECT_TRUE(tokenizer.is_special(0));
  for (const std::string& text : kTexts) {
    const auto ids = tokenizer.encode(text, {.parse_special_tokens = false});
    ASSERT_TRUE(ids.ok()) << ids.status();
    ASSERT_FALSE(ids->empty());
    EXPECT_EQ(ids->front(), 0);
    EXPECT_EQ(tokenizer.decode(*ids, true).value(), text);
    Detokenizer detokenizer(*loaded, true);
    std::string streamed;
    for (const TokenId id : *ids) streamed += detokenizer.push(id);
    EXPECT_EQ(streamed + detokenizer.finish(), text);
  }
  const std::string control = "a</s>b<s>";
  const auto ids =
      tokenizer.encode(control, {.add_special_tokens = false, .parse_special_tokens = false});
  EXPECT_EQ(tokenizer.decode(ids.value(), true).value(), control);
  EXPECT_EQ(tokenizer.encode("</s>", {.add_special_tokens = false}).value(),
            std::vector<TokenId>{1});
}

TEST_P(Trained, LearnsWordsOfTheText) {
  ASSERT_TRUE(train(options()).ok());
  const auto tokenizer = Tokenizer::load(folder_.path()).value();
  const std::string text = contents("tests/text/tokenizer_test.cc");
  const size_t ids = tokenizer->encode(text, {}).value().size();
  // Each token covers 2 bytes on average at least; a vocabulary of single bytes would cover 1.
  EXPECT_LT(ids * 2, text.size());
}

TEST_P(Trained, IsAFunctionOfTextAndOptions) {
  ASSERT_TRUE(train(options()).ok());
  const std::string first = file();
  ASSERT_TRUE(train(options()).ok());
  EXPECT_EQ(file(), first);
}

TEST_P(Trained, KeepsSpecialTokensOutOfWords) {
  std::string text;
  for (int i = 0; i < 200; ++i) text += "abc</s>";
  const auto path = folder_.write("documents.txt", text);
  ASSERT_TRUE(train_tokenizer({path}, options(), folder_.path() / "tokenizer.json").ok());
  const auto tokenizer = Tokenizer::load(folder_.path()).value();
  for (TokenId id = 3; id < tokenizer->vocab_size(); ++id) {
    EXPECT_EQ(tokenizer->token_spelling(id).find("</s"), std::string::npos);
  }
}

TEST_P(Trained, NamesTheOptionThatIsWrong) {
  const auto message = [&](TokenizerTrainOptions options) {
    const Status status = train(options);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  auto wrong = options();
  wrong.vocab_size = 100;
  EXPECT_THAT(message(wrong), HasSubstr("vocab_size 100"));
  wrong.vocab_size = -1;
  EXPECT_THAT(message(wrong), HasSubstr("vocab_size -1"));
  wrong = options();
  wrong.bos_token = "<bos>";
  EXPECT_THAT(message(wrong), HasSubstr("<bos>"));
  wrong = options();
  wrong.special_tokens = {"<s>", "<s>"};
  EXPECT_THAT(message(wrong), HasSubstr("twice"));
  wrong.special_tokens = {"<s>", ""};
  EXPECT_THAT(message(wrong), HasSubstr("empty string"));
}

TEST_P(Trained, NamesTheFileThatIsWrong) {
  const auto output = folder_.path() / "tokenizer.json";
  const auto missing = folder_.path() / "missing.txt";
  Status status = train_tokenizer({missing}, options(), output);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("missing.txt"));
  const auto binary = folder_.write("binary.txt", "text \xFF more");
  status = train_tokenizer({binary}, options(), output);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(status.message()), HasSubstr("binary.txt"));
  const auto empty = folder_.write("empty.txt", "");
  status = train_tokenizer({empty}, options(), output);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_FALSE(std::filesystem::exists(output));
}

}  // namespace
}  // namespace mole::text
