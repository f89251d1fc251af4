#include "trainer/data/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/trainer/test_folder.h"
#include "text/tokenizer.h"
#include "text/tokenizer_trainer.h"
#include "trainer/data/dataset.h"

namespace mole::trainer {
namespace {

using ::testing::HasSubstr;

class Tokenize : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.write("a.txt",
                  "The mole dug a tunnel.\nThe mole slept.\nIt rained <|eos|> on the hill.\n");
    folder_.write("b.jsonl",
                  "{\"text\": \"caf\\u00e9 au lait\"}\n{\"text\": \"\"}\n{\"text\": \"x\"}\n");
    std::filesystem::create_directories(folder_.path() / "tok");
    const Status trained = text::train_tokenizer(
        {folder_.path() / "a.txt"},
        {.vocab_size = 280, .special_tokens = {"<|bos|>", "<|eos|>"}, .bos_token = "<|bos|>"},
        folder_.path() / "tok" / "tokenizer.json");
    ASSERT_TRUE(trained.ok()) << trained;
    options_.inputs = {(folder_.path() / "a.txt").string(), (folder_.path() / "b.jsonl").string()};
    options_.tokenizer = folder_.path() / "tok";
    options_.output = folder_.path() / "out";
  }
  std::string text_of(const TokenStream& stream) {
    const auto tokenizer = text::Tokenizer::load(options_.tokenizer);
    std::vector<TokenId> ids(static_cast<size_t>(stream.count()));
    stream.read(0, ids);
    return *(*tokenizer)->decode(ids, /*skip_special_tokens=*/false);
  }
  TestFolder folder_{"tokenize"};
  TokenizeOptions options_;
};

TEST_F(Tokenize, DocumentsStandBetweenBosAndEosAndComeBackAsText) {
  const auto manifest = tokenize_corpus(options_);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  const auto data = TokenDataset::open(options_.output, true);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(
      text_of(data->train()),
      "<|bos|>The mole dug a tunnel.\nThe mole slept.\nIt rained <|eos|> on the hill.\n<|eos|>"
      "<|bos|>caf\u00e9 au lait<|eos|><|bos|>x<|eos|>");
  EXPECT_EQ((*manifest)["splits"]["train"]["documents"], 3);  // an empty one is none
  // The "<|eos|>" of the text is text: only three ids are EOS.
  std::vector<TokenId> ids(static_cast<size_t>(data->train().count()));
  data->train().read(0, ids);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), data->eos_token_id()), 3);
}

TEST_F(Tokenize, TheSameInputGivesTheSameBytes) {
  options_.shard_tokens_max = 16;  // several shards
  ASSERT_TRUE(tokenize_corpus(options_).ok());
  const auto first = options_.output;
  options_.output = folder_.path() / "again";
  ASSERT_TRUE(tokenize_corpus(options_).ok());
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(first)) {
    EXPECT_EQ(read_all(entry.path()), read_all(options_.output / entry.path().filename()));
    ++files;
  }
  EXPECT_GE(files, 3);
}

TEST_F(Tokenize, HeldOutTextIsNeverTrainedOn) {
  options_.heldout_by = "tail";
  options_.heldout_fraction = 0.5;
  ASSERT_TRUE(tokenize_corpus(options_).ok());
  auto data = TokenDataset::open(options_.output, true);
  ASSERT_TRUE(data.ok());
  EXPECT_THAT(text_of(data->train()), HasSubstr("slept.\n<|eos|>"));
  EXPECT_THAT(text_of(data->heldout()), HasSubstr("<|bos|>It rained"));

  options_.heldout_by = "document";
  options_.heldout_fraction = 0.5;
  ASSERT_TRUE(tokenize_corpus(options_).ok());
  data = TokenDataset::open(options_.output, true);
  ASSERT_TRUE(data.ok());
  for (const char* document : {"The mole dug", "caf\u00e9", "<|bos|>x<|eos|>"}) {
    const bool trained = text_of(data->train()).find(document) != std::string::npos;
    const bool held_out =
        data->heldout().count() > 0 && text_of(data->heldout()).find(document) != std::string::npos;
    EXPECT_NE(trained, held_out) << document;
  }
}

TEST_F(Tokenize, TailIsCutAtALineElseBetweenCodePoints) {
  EXPECT_EQ(tail_begin("aaaa\nbbbb\ncc", 0.5), 10u);
  EXPECT_EQ(tail_begin("\u00e9\u00e9\u00e9", 0.5), 4u);
  EXPECT_EQ(tail_begin("abc", 0.0), 3u);
}

TEST_F(Tokenize, ErrorsNameWhatIsWrong) {
  auto bad = options_;
  bad.bos_token = "<s>";
  EXPECT_THAT(tokenize_corpus(bad).status().message(), HasSubstr("bos-token: '<s>' is not in"));
  bad = options_;
  bad.heldout_fraction = 0.9;
  EXPECT_THAT(tokenize_corpus(bad).status().message(), HasSubstr("heldout-fraction"));
  bad = options_;
  bad.tokenizer = folder_.path();
  EXPECT_EQ(tokenize_corpus(bad).status().code(), absl::StatusCode::kNotFound);
  bad = options_;
  bad.inputs = {folder_.write("latin1.txt", "caf\xe9").string()};
  EXPECT_THAT(tokenize_corpus(bad).status().message(), HasSubstr("latin1.txt"));
}

}  // namespace
}  // namespace mole::trainer
