// A token shard: the ids of many documents, one after the other, in one file that can be mapped.
//
// Layout, little-endian: 64 bytes of header, then `count` ids.
//   0  char[8]  "MOLETOKS"
//   8  u32      version, 1
//  12  u32      bytes of one id: 2 (vocabulary up to 65536) or 4
//  16  u64      count of ids
//  24  u8[32]   SHA-256 of the ids' bytes
//  56  u8[8]    zero
// Each document stands as: BOS, its tokens, EOS.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/ids.h"
#include "base/status.h"

namespace mole::trainer {

inline constexpr size_t kShardHeaderBytes = 64;

/// Writes `ids` whole or not at all; gives the SHA-256 of the whole file in hex.
/// Errors: kInvalidArgument (an id that `id_bytes` can't hold), kInternal (errno's text).
StatusOr<std::string> write_shard(const std::filesystem::path& path, std::span<const TokenId> ids,
                                  int32_t id_bytes);

/// A mapped shard. Thread: const methods from any thread.
class Shard {
 public:
  /// Checks header and size; the digest only if `verify`. Errors: kNotFound, kDataLoss.
  static StatusOr<Shard> open(const std::filesystem::path& path, bool verify);

  int64_t count() const { return count_; }
  /// Copies ids [begin, begin + out.size()) to `out`; the range must lie in the shard.
  void read(int64_t begin, std::span<TokenId> out) const;

 private:
  MappedFile file_;
  int64_t count_ = 0;
  int32_t id_bytes_ = 2;
};

}  // namespace mole::trainer
