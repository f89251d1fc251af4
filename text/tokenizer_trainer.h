// Trains a tokenizer.json from text files. Thread: blocks the caller; deterministic for the same
// files, order and options.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/status.h"

namespace mole::text {

enum class TokenizerKind { kByteLevelBpe, kUnigram };

struct TokenizerTrainOptions {
  TokenizerKind kind = TokenizerKind::kByteLevelBpe;
  int32_t vocab_size = 4096;                // special tokens included
  int32_t min_frequency = 2;                // BPE: no merge of a rarer pair
  std::vector<std::string> special_tokens;  // get the ids 0, 1, …
  std::string bos_token;  // put before every text by the post-processor; "" = none
};

/// Writes a tokenizer.json that Hugging Face tokenizers loads.
/// Errors: kNotFound (a file), kInvalidArgument (an option, or text that is not UTF-8).
Status train_tokenizer(const std::vector<std::filesystem::path>& text_files,
                       const TokenizerTrainOptions& options, const std::filesystem::path& output);

}  // namespace mole::text
