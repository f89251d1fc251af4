// SHA-256 (FIPS 180-4) in pieces, for keys that nobody may be able to make collide. Reused without
// allocating. Thread: one at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace mole {

/// 32 bytes of SHA-256, as words in memory order: good for comparing and for choosing a bucket, not
/// for reading aloud.
struct Sha256Digest {
  std::array<uint64_t, 4> words{};
  bool operator==(const Sha256Digest&) const = default;
};
static_assert(sizeof(Sha256Digest) == 32);

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  Sha256& update(std::span<const std::byte> bytes);
  /// The digest of all updates; the next update begins a new message.
  Sha256Digest finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace mole
