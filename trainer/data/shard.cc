#include "trainer/data/shard.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "base/check.h"

namespace mole::trainer {
namespace {

constexpr char kMagic[8] = {'M', 'O', 'L', 'E', 'T', 'O', 'K', 'S'};
constexpr uint32_t kVersion = 1;

struct Header {
  char magic[8];
  uint32_t version;
  uint32_t id_bytes;
  uint64_t count;
  std::array<uint8_t, 32> sha256;
  uint64_t zero;
};
static_assert(sizeof(Header) == kShardHeaderBytes);

std::array<uint8_t, 32> digest_bytes(std::span<const std::byte> bytes) {
  const std::string hex = sha256_hex(bytes);
  std::array<uint8_t, 32> out{};
  for (size_t i = 0; i < out.size(); ++i) {
    out[i] = static_cast<uint8_t>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
  }
  return out;
}

template <typename Int>
void append_ids(std::span<const TokenId> ids, std::string* out) {
  for (TokenId id : ids) {
    const Int value = static_cast<Int>(id);
    out->append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
}

template <typename Int>
void copy_ids(const std::byte* from, std::span<TokenId> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    Int value;
    std::memcpy(&value, from + i * sizeof(Int), sizeof(Int));
    out[i] = static_cast<TokenId>(value);
  }
}

Status broken(const std::filesystem::path& path, const std::string& what) {
  return absl::DataLossError(path.string() + ": token shard: " + what);
}

}  // namespace

StatusOr<std::string> write_shard(const std::filesystem::path& path, std::span<const TokenId> ids,
                                  int32_t id_bytes) {
  MOLE_CHECK(id_bytes == 2 || id_bytes == 4);
  const TokenId id_max =
      id_bytes == 2 ? std::numeric_limits<uint16_t>::max() : std::numeric_limits<TokenId>::max();
  for (TokenId id : ids) {
    if (id < 0 || id > id_max) {
      return absl::InvalidArgumentError("token id " + std::to_string(id) + " does not fit into " +
                                        std::to_string(id_bytes) + " bytes");
    }
  }
  std::string contents(kShardHeaderBytes, '\0');
  contents.reserve(kShardHeaderBytes + ids.size() * static_cast<size_t>(id_bytes));
  if (id_bytes == 2) append_ids<uint16_t>(ids, &contents);
  if (id_bytes == 4) append_ids<uint32_t>(ids, &contents);

  Header header{};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  header.version = kVersion;
  header.id_bytes = static_cast<uint32_t>(id_bytes);
  header.count = ids.size();
  const auto all = std::as_bytes(std::span(contents));
  header.sha256 = digest_bytes(all.subspan(kShardHeaderBytes));
  std::memcpy(contents.data(), &header, sizeof(header));
  MOLE_RETURN_IF_ERROR(write_file_atomic(path, contents));
  return sha256_hex(std::as_bytes(std::span(contents)));
}

StatusOr<Shard> Shard::open(const std::filesystem::path& path, bool verify) {
  Shard shard;
  MOLE_ASSIGN_OR_RETURN(shard.file_, MappedFile::open(path));
  const auto bytes = shard.file_.bytes();
  if (bytes.size() < kShardHeaderBytes) return broken(path, "shorter than its header");
  Header header{};
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0) {
    return broken(path, "does not begin with MOLETOKS");
  }
  if (header.version != kVersion) {
    return broken(path, "version " + std::to_string(header.version) + ", accepted: 1");
  }
  if (header.id_bytes != 2 && header.id_bytes != 4) {
    return broken(path, "ids of " + std::to_string(header.id_bytes) + " bytes, accepted: 2, 4");
  }
  const auto payload = bytes.subspan(kShardHeaderBytes);
  if (payload.size() / header.id_bytes != header.count || payload.size() % header.id_bytes != 0) {
    return broken(path, "header says " + std::to_string(header.count) + " ids, the file has " +
                            std::to_string(payload.size()) + " bytes of them");
  }
  if (verify && digest_bytes(payload) != header.sha256) return broken(path, "SHA-256 differs");
  shard.count_ = static_cast<int64_t>(header.count);
  shard.id_bytes_ = static_cast<int32_t>(header.id_bytes);
  return shard;
}

void Shard::read(int64_t begin, std::span<TokenId> out) const {
  MOLE_CHECK_GE(begin, 0);
  MOLE_CHECK_LE(begin + static_cast<int64_t>(out.size()), count_);
  const std::byte* from = file_.bytes().data() + kShardHeaderBytes + begin * id_bytes_;
  if (id_bytes_ == 2) copy_ids<uint16_t>(from, out);
  if (id_bytes_ == 4) copy_ids<uint32_t>(from, out);
}

}  // namespace mole::trainer
