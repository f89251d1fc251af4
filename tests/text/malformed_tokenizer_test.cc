// A tokenizer.json comes with a model and is not trusted: whatever stands in it, loading ends with
// a tokenizer that works or with kInvalidArgument.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "tests/text/text_fixtures.h"
#include "text/detokenizer.h"

namespace mole::text {
namespace {

using testing::HasSubstr;

std::string model_file(const std::string& model, const std::string& rest = "") {
  return R"({"version": "1.0", "added_tokens": [], )" + rest + R"("model": )" + model + "}";
}

const std::string kModel = R"({"type": "WordLevel", "unk_token": "u", "vocab": {"u": 0, "a": 1}})";

TEST(MalformedTokenizer, IsRefusedWithTheFilesName) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "not JSON"},
      {"{", "not JSON"},
      {"null", "\"model\""},
      {"[]", "\"model\""},
      {"{}", "\"model\""},
      {R"({"model": null})", "\"model\""},
      {R"({"model": {}})", ""},
      {R"({"version": "9.9", "model": )" + kModel + "}", "9.9"},
      {model_file(R"({"type": "Unheard", "vocab": {}})"), ""},
      {model_file(R"({"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]})"), ""},
      {model_file(R"({"type": "BPE", "vocab": {"a": -1}, "merges": []})"), ""},
      {model_file(R"({"type": "BPE", "vocab": {"a": 4000000000}, "merges": []})"), "4000000000"},
      {model_file(R"({"type": "BPE", "vocab": ["a"], "merges": []})"), ""},
      {model_file(R"({"type": "BPE", "vocab": {}, "merges": []})"), "empty"},
      {model_file(R"({"type": "Unigram", "unk_id": 7, "vocab": [["a", 0.0]]})"), ""},
      {model_file(R"({"type": "Unigram", "unk_id": null, "vocab": [["a", 0.0]]})"), ""},
      {model_file(R"({"type": "WordLevel", "unk_token": "?", "vocab": {"a": 0}})"), ""},
      {model_file(kModel, R"("decoder": 3, )"), ""},
      {model_file(kModel,
                  R"("decoder": {"type": "Strip", "content": "a", "start": 0, "stop": 9}, )"),
       ""},
      {model_file(kModel, R"("pre_tokenizer": {"type": "Split", "pattern": {"Regex": "("},
                             "behavior": "Isolated", "invert": false}, )"),
       ""},
      {model_file(kModel, R"("post_processor": {"type": "BertProcessing", "sep": ["s", 900],
                             "cls": ["c", 901]}, )"),
       "no token"},
      {"\xFF\xFE", "not UTF-8"},
      {std::string(200, '['), "not JSON"},
  };
  for (const auto& [json, what] : cases) {
    const auto loaded = load_text(json);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument)
        << json << ": " << loaded.status();
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("tokenizer.json"));
    EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(what));
  }
}

TEST(MalformedTokenizer, IsNotFoundWhereThereIsNone) {
  TemporaryFolder folder;
  EXPECT_EQ(Tokenizer::load(folder.path()).status().code(), absl::StatusCode::kNotFound);
}

TEST(MalformedTokenizer, IsRefusedWhereverItIsCut) {
  Random random;
  SCOPED_TRACE(random.trace());
  for (const std::string& name : kGoldenNames) {
    const std::string whole = contents(golden_folder(name) / "tokenizer.json");
    for (int round = 0; round < 40; ++round) {
      // Without the closing brace and the newline after it.
      const auto loaded = load_text(whole.substr(0, random.below(whole.size() - 1)));
      EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << name;
    }
  }
}

TEST(MalformedTokenizer, NeverCrashesWhenBytesChange) {
  Random random;
  SCOPED_TRACE(random.trace());
  const std::string bytes = "\"{}[],:0123456789-eE.\\untfalse \x00\x80\xFF\xC3";
  const uint64_t rounds = from_environment("MOLE_TEXT_ROUNDS", 150);
  uint64_t loaded_count = 0;
  for (const std::string& name : kGoldenNames) {
    const std::string whole = contents(golden_folder(name) / "tokenizer.json");
    for (uint64_t round = 0; round < rounds; ++round) {
      std::string changed = whole;
      for (size_t change = 1 + random.below(3); change > 0; --change) {
        // Half of the changes fall on the part before the vocabulary, where the structure is.
        const size_t end =
            random.below(2) == 0 ? std::min<size_t>(changed.size(), 1500) : changed.size();
        changed[random.below(end)] = bytes[random.below(bytes.size())];
      }
      const auto loaded = load_text(changed);
      if (!loaded.ok()) {
        ASSERT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument) << loaded.status();
        continue;
      }
      ++loaded_count;
      const auto ids = (*loaded)->encode("The mole <s> é 漢\n", {.parse_special_tokens = false});
      if (!ids.ok()) continue;
      Detokenizer detokenizer(*loaded, false);
      std::string text;
      for (const TokenId id : *ids) text += detokenizer.push(id);
      text += detokenizer.finish();
      const auto whole_text = (*loaded)->decode(*ids, false);
      if (whole_text.ok()) {
        EXPECT_EQ(text, *whole_text) << changed;
      }
    }
  }
  EXPECT_GT(loaded_count, 0u);
}

}  // namespace
}  // namespace mole::text
