#include <cstring>
#include <set>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "base/checksum.h"
#include "base/file.h"
#include "base/sha256.h"

namespace mole {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

std::string hex(const Sha256Digest& digest) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(digest.words.data());
  std::string text;
  for (size_t i = 0; i < sizeof(digest); ++i) {
    constexpr char kHex[] = "0123456789abcdef";
    text += kHex[bytes[i] >> 4];
    text += kHex[bytes[i] & 15];
  }
  return text;
}

TEST(Sha256Test, PublishedVectorAndPieces) {
  Sha256 sha;
  // FIPS 180-4's example.
  EXPECT_EQ(hex(sha.update(bytes_of("abc")).finish()),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string text = "pieces give the same digest as the whole";
  for (size_t cut = 0; cut <= text.size(); ++cut) {
    sha.update(bytes_of(text.substr(0, cut))).update(bytes_of(text.substr(cut)));
    EXPECT_EQ(hex(sha.finish()), sha256_hex(bytes_of(text))) << cut;
  }
}

TEST(ChecksumTest, EveryFlippedBitAndEveryLengthShows) {
  std::string text(203, '\0');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  std::set<uint64_t> seen;
  for (size_t length = 0; length <= text.size(); ++length) {
    seen.insert(checksum64(bytes_of(text.substr(0, length))));
    seen.insert(checksum64(bytes_of(std::string(length, '\0')), 1));
  }
  EXPECT_EQ(seen.size(), 2 * (text.size() + 1));
  for (size_t bit = 0; bit < 8 * text.size(); ++bit) {
    std::string other = text;
    other[bit / 8] = static_cast<char>(other[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_TRUE(seen.insert(checksum64(bytes_of(other))).second) << bit;
  }
}

TEST(ChecksumTest, SwappedWordsAndSeedsShow) {
  std::vector<uint64_t> words(64);
  for (size_t i = 0; i < words.size(); ++i) words[i] = i % 9;
  const uint64_t sum = checksum64(std::as_bytes(std::span(words)));
  EXPECT_NE(sum, checksum64(std::as_bytes(std::span(words)), 7));
  for (size_t i = 0; i + 1 < words.size(); ++i) {
    auto other = words;
    std::swap(other[i], other[i + 1]);
    EXPECT_NE(sum, checksum64(std::as_bytes(std::span(other)))) << i;
  }
}

}  // namespace
}  // namespace mole
