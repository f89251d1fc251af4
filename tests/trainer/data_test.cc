#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/philox.h"
#include "tests/trainer/test_folder.h"
#include "trainer/data/corpus.h"
#include "trainer/data/dataset.h"
#include "trainer/data/sampler.h"
#include "trainer/data/shard.h"

namespace mole::trainer {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<TokenId> count_up(size_t count, TokenId first) {
  std::vector<TokenId> ids(count);
  std::iota(ids.begin(), ids.end(), first);
  return ids;
}

TEST(Shard, GivesBackWhatWasWritten) {
  TestFolder folder("shard");
  for (int32_t id_bytes : {2, 4}) {
    const auto ids = count_up(1000, id_bytes == 2 ? 64536 : 100000);
    ASSERT_TRUE(write_shard(folder.path() / "a", ids, id_bytes).ok());
    const auto shard = Shard::open(folder.path() / "a", true);
    ASSERT_TRUE(shard.ok()) << shard.status();
    ASSERT_EQ(shard->count(), 1000);
    std::vector<TokenId> back(10);
    shard->read(990, back);
    EXPECT_EQ(back, count_up(10, ids[990]));
  }
}

TEST(Shard, RefusesIdsThatDoNotFit) {
  TestFolder folder("shard");
  const std::vector<TokenId> ids = {1, 65536};
  const auto written = write_shard(folder.path() / "a", ids, 2);
  EXPECT_THAT(written.status().message(), HasSubstr("token id 65536 does not fit into 2 bytes"));
}

TEST(Shard, EveryTruncationAndEveryFlippedBitIsNoticed) {
  TestFolder folder("shard");
  const std::vector<TokenId> ids = {5, 6, 7};
  ASSERT_TRUE(write_shard(folder.path() / "a", ids, 2).ok());
  const std::string whole = read_all(folder.path() / "a");
  for (size_t size = 0; size < whole.size(); ++size) {
    folder.write("b", whole.substr(0, size));
    EXPECT_EQ(Shard::open(folder.path() / "b", false).status().code(), absl::StatusCode::kDataLoss)
        << "truncated to " << size;
  }
  for (size_t byte = 0; byte < whole.size(); ++byte) {
    if (byte >= 56 && byte < 64) continue;  // reserved, not read
    std::string flipped = whole;
    flipped[byte] = static_cast<char>(flipped[byte] ^ 1);
    folder.write("b", flipped);
    EXPECT_EQ(Shard::open(folder.path() / "b", true).status().code(), absl::StatusCode::kDataLoss)
        << "flipped byte " << byte;
  }
}

Json shard_entry(const std::string& file, int64_t tokens) {
  return {{"file", file}, {"tokens", tokens}, {"sha256", ""}};
}

TEST(Dataset, ReadsAcrossShards) {
  TestFolder folder("dataset");
  ASSERT_TRUE(write_shard(folder.path() / "t0", count_up(5, 0), 2).ok());
  ASSERT_TRUE(write_shard(folder.path() / "t1", count_up(1, 5), 2).ok());
  ASSERT_TRUE(write_shard(folder.path() / "t2", count_up(7, 6), 2).ok());
  Json manifest = {{"format", "mole-tokens"}, {"version", 1},      {"tokenizer_sha256", "x"},
                   {"vocab_size", 13},        {"bos_token_id", 0}, {"eos_token_id", 1}};
  manifest["splits"]["train"]["shards"] = {shard_entry("t0", 5), shard_entry("t1", 1),
                                           shard_entry("t2", 7)};
  manifest["splits"]["heldout"]["shards"] = Json::array();
  folder.write("manifest.json", manifest.dump());
  const auto data = TokenDataset::open(folder.path(), true);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_EQ(data->heldout().count(), 0);
  ASSERT_EQ(data->train().count(), 13);
  for (size_t begin = 0; begin < 13; ++begin) {
    for (size_t size = 0; begin + size <= 13; ++size) {
      std::vector<TokenId> ids(size);
      data->train().read(static_cast<int64_t>(begin), ids);
      EXPECT_EQ(ids, count_up(size, static_cast<TokenId>(begin)));
    }
  }
  manifest["splits"]["train"]["shards"][1]["tokens"] = 2;
  folder.write("manifest.json", manifest.dump());
  EXPECT_THAT(TokenDataset::open(folder.path(), true).status().message(),
              HasSubstr("holds 1 tokens, the manifest says 2"));
}

TEST(Corpus, WalksFoldersInNameOrderAndReadsBothForms) {
  TestFolder folder("corpus");
  folder.write("b.txt", "plain\ntext");
  folder.write("a.jsonl", "{\"text\": \"one\"}\n\n{\"text\": \"t\\u00e9\", \"id\": 4}");
  folder.write("c.md", "not text for us");
  const auto files = list_text_files({folder.path().string()});
  ASSERT_TRUE(files.ok()) << files.status();
  std::vector<std::string> documents;
  for (const auto& file : *files) {
    ASSERT_TRUE(for_each_document(file, [&](const std::string& text) {
                  documents.push_back(text);
                  return absl::OkStatus();
                }).ok());
  }
  EXPECT_THAT(documents, ElementsAre("one", "t\u00e9", "plain\ntext"));
}

TEST(Corpus, ErrorsNameFileAndLine) {
  TestFolder folder("corpus");
  const auto use = [](const std::string&) { return absl::OkStatus(); };
  const auto file = folder.write("a.jsonl", "{\"text\": \"one\"}\n{\"body\": 1}\n");
  EXPECT_THAT(for_each_document(file, use).message(), HasSubstr("a.jsonl:2: accepted: an object"));
  EXPECT_THAT(list_text_files({"/nowhere/x.txt"}).status().message(), HasSubstr("/nowhere/x.txt"));
  EXPECT_THAT(list_text_files({folder.write("x.md", "").string()}).status().message(),
              HasSubstr("accepted endings: .txt, .jsonl"));
  EXPECT_FALSE(list_text_files({}).ok());
}

TEST(Sampler, EachEpochSeesEveryWindowOnce) {
  const uint64_t seed = 20;
  for (int64_t tokens : {20, 21, 29, 100, 1000, 12345}) {
    const WindowSampler sampler(tokens, 10, seed);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::set<int64_t> begins;
      for (int64_t i = 0; i < sampler.windows_per_epoch(); ++i) {
        const int64_t begin = sampler.window_begin(epoch * sampler.windows_per_epoch() + i);
        EXPECT_GE(begin, 0);
        EXPECT_LE(begin + 10, tokens);
        begins.insert(begin);
      }
      ASSERT_EQ(static_cast<int64_t>(begins.size()), sampler.windows_per_epoch());
      // One cut an epoch: all windows begin at the same place modulo the window's length.
      for (int64_t begin : begins) EXPECT_EQ(begin % 10, *begins.begin() % 10);
    }
  }
}

TEST(Sampler, OrderDependsOnSeedAndEpochOnly) {
  const WindowSampler a(100000, 100, 1), same(100000, 100, 1), other(100000, 100, 2);
  int equal_other = 0, equal_epoch = 0;
  const int64_t windows = a.windows_per_epoch();
  for (int64_t i = 0; i < windows; ++i) {
    EXPECT_EQ(a.window_begin(i), same.window_begin(i));
    equal_other += a.window_begin(i) / 100 == other.window_begin(i) / 100;
    equal_epoch += a.window_begin(i) / 100 == a.window_begin(windows + i) / 100;
  }
  // Two random permutations agree in about one place; ten would have a chance of one in a million.
  EXPECT_LT(equal_other, 10);
  EXPECT_LT(equal_epoch, 10);
}

}  // namespace
}  // namespace mole::trainer
