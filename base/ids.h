// Ids that cannot be mixed up: each is its own type around an integer.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <ostream>

namespace mole {

template <typename Tag, typename Int>
struct Id {
  Int value{};
  auto operator<=>(const Id&) const = default;
  friend std::ostream& operator<<(std::ostream& out, Id id) { return out << id.value; }
};

using RequestId = Id<struct RequestIdTag, uint64_t>;    // one user request
using SequenceId = Id<struct SequenceIdTag, uint64_t>;  // one of a request's n sequences
using BlockId = Id<struct BlockIdTag, int32_t>;         // one page of the KV cache

/// Token ids stay plain integers: they travel in bulk through tensors and protocols.
using TokenId = int32_t;

}  // namespace mole

template <typename Tag, typename Int>
struct std::hash<mole::Id<Tag, Int>> {
  size_t operator()(mole::Id<Tag, Int> id) const { return std::hash<Int>()(id.value); }
};
