// `trainer data tokenize`: text to token shards. The same inputs, tokenizer and options give the
// same bytes again.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace mole::trainer {

struct TokenizeOptions {
  std::vector<std::string> inputs;          // files or folders, see corpus.h
  std::vector<std::string> heldout_inputs;  // held out whole
  double heldout_fraction = 0.0;            // of `inputs`, beside heldout_inputs; in [0, 0.5]
  std::string heldout_by = "document";      // document: by a hash of the text; tail: each one's end
  std::filesystem::path tokenizer;          // folder with tokenizer.json
  std::filesystem::path output;             // folder, made if missing
  std::string bos_token = "<|bos|>";
  std::string eos_token = "<|eos|>";
  int64_t shard_tokens_max = int64_t{1} << 26;
};

/// Writes the shards, then manifest.json; gives the manifest (format: dataset.h).
/// Errors: kNotFound, kInvalidArgument (an option, or an input that is not UTF-8), kInternal (I/O).
StatusOr<Json> tokenize_corpus(const TokenizeOptions& options);

/// Where `document` is cut for heldout_by = tail: the first byte of the held-out end, after a line
/// break where there is one.
size_t tail_begin(const std::string& document, double heldout_fraction);

}  // namespace mole::trainer
