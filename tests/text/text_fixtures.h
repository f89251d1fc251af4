// What the tests of text/ share: the golden tokenizers, folders that vanish, random choices with a
// printed seed.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace mole::text {

inline const std::vector<std::string> kGoldenNames = {"byte_level_bpe",
                                                      "split_regex_bpe",
                                                      "byte_fallback_bpe",
                                                      "metaspace_unigram",
                                                      "wordpiece",
                                                      "word_level",
                                                      "ctc"};

/// Tests run in the root of the repository.
inline std::filesystem::path golden_folder(const std::string& name) {
  return std::filesystem::path("tests/text/golden") / name;
}

inline std::string contents(const std::filesystem::path& path) {
  auto text = read_file(path, size_t{64} << 20);
  EXPECT_TRUE(text.ok()) << text.status();
  return std::move(text).value_or("");
}

inline Json golden_cases(const std::filesystem::path& path) {
  auto json = parse_json(contents(path));
  EXPECT_TRUE(json.ok()) << json.status();
  return std::move(json).value_or(Json());
}

/// A folder of this test's own, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "mole_text_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

inline std::shared_ptr<const Tokenizer> load_golden(const std::string& name) {
  auto tokenizer = Tokenizer::load(golden_folder(name));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return std::move(tokenizer).value_or(nullptr);
}

inline StatusOr<std::shared_ptr<const Tokenizer>> load_text(const std::string& json) {
  TemporaryFolder folder;
  folder.write("tokenizer.json", json);
  return Tokenizer::load(folder.path());
}

/// The environment variable `name`, for the long form of a property test.
inline uint64_t from_environment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

/// A generator whose seed stands in every failure within its scope: SCOPED_TRACE(random.trace()).
class Random {
 public:
  Random() : seed_(from_environment("MOLE_TEXT_SEED", 20261121)), generator_(seed_) {}
  std::string trace() const { return "MOLE_TEXT_SEED=" + std::to_string(seed_); }
  /// Uniform in [0, end).
  size_t below(size_t end) { return static_cast<size_t>(generator_() % end); }

 private:
  uint64_t seed_;
  std::mt19937_64 generator_;
};

}  // namespace mole::text
