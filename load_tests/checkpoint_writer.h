// Writes a bench model as a checkpoint folder in Hugging Face's layout.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/json.h"
#include "base/status.h"

namespace mole::load_tests {

struct WriteOptions {
  uint64_t seed = 0;
  int64_t shard_bytes_max = int64_t{1}
                            << 30;  // memory taken while writing; a tensor is never split
  int32_t threads = 1;
  std::filesystem::path tokenizer_from =
      {};  // "" = a made-up tokenizer with the config's vocabulary
};

struct Written {
  int64_t parameters = 0;
  int64_t bytes = 0;
  int64_t shards = 0;
};

/// Writes shards, index, tokenizer and, last, config.json into `folder`, which must be empty or not
/// yet exist: a folder with config.json is complete.
/// Errors: kInvalidArgument (folder not empty, tokenizer_from without tokenizer.json), kInternal.
StatusOr<Written> write_checkpoint(const std::filesystem::path& folder, const Json& config,
                                   const WriteOptions& options);

/// tokenizer.json of a byte-level tokenizer without merges, filled up to `vocab_size` with words
/// that text never becomes but every id of which can be shown. At least 258 ids.
Json filler_tokenizer(int64_t vocab_size, int64_t bos, int64_t eos);

}  // namespace mole::load_tests
