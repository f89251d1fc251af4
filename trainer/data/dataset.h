// A folder of token shards with its manifest.json, as `trainer data tokenize` writes it.
//
//   {"format": "mole-tokens", "version": 1, "tokenizer_sha256": …, "vocab_size": …, "id_bytes": 2,
//    "bos_token_id": …, "eos_token_id": …, "inputs": [{"file", "bytes", "sha256"}],
//    "splits": {"train": {"documents", "tokens", "bytes", "shards": [{"file", "tokens",
//    "sha256"}]},
//               "heldout": {…}}}
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "trainer/data/shard.h"

namespace mole::trainer {

/// The ids of one split, over all its shards. Thread: const methods from any thread.
class TokenStream {
 public:
  int64_t count() const { return starts_.empty() ? 0 : starts_.back(); }
  /// Copies ids [begin, begin + out.size()) to `out`; the range must lie in the stream.
  void read(int64_t begin, std::span<TokenId> out) const;

 private:
  friend class TokenDataset;
  void append(Shard shard);
  std::vector<Shard> shards_;
  std::vector<int64_t> starts_;  // [shards + 1], first id of each shard, then the count of all
};

class TokenDataset {
 public:
  /// Opens every shard that the manifest names; `verify` also checks each digest.
  /// Errors: kNotFound, kInvalidArgument (manifest), kDataLoss (a shard, or it differs from the
  /// manifest).
  static StatusOr<TokenDataset> open(const std::filesystem::path& folder, bool verify);

  const TokenStream& train() const { return train_; }
  const TokenStream& heldout() const { return heldout_; }
  int32_t vocab_size() const { return vocab_size_; }
  TokenId bos_token_id() const { return bos_token_id_; }
  TokenId eos_token_id() const { return eos_token_id_; }
  const std::string& tokenizer_sha256() const { return tokenizer_sha256_; }
  /// SHA-256 of manifest.json: names the data exactly, since it holds every shard's digest.
  const std::string& digest() const { return digest_; }

 private:
  TokenStream train_, heldout_;
  int32_t vocab_size_ = 0;
  TokenId bos_token_id_ = -1, eos_token_id_ = -1;
  std::string tokenizer_sha256_, digest_;
};

}  // namespace mole::trainer
