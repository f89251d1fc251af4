#include "server/auth.h"

#include <algorithm>
#include <cstddef>
#include <span>
#include <sstream>

#include "base/file.h"
#include "server/http_gate.h"

namespace mole::server {
namespace {

constexpr size_t kKeyFileBytesMax = 1u << 20;

std::string digest(std::string_view key) { return sha256_hex(std::as_bytes(std::span(key))); }

bool printable(const std::string& key) {
  return std::all_of(key.begin(), key.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace

ApiKeys::ApiKeys(const std::vector<std::string>& keys) {
  for (const auto& key : keys) digests_.push_back(digest(key));
}

StatusOr<ApiKeys> ApiKeys::load(const std::filesystem::path& path) {
  MOLE_ASSIGN_OR_RETURN(const std::string text, read_file(path, kKeyFileBytesMax));
  std::vector<std::string> keys;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || line.front() == '#') continue;
    if (!printable(line)) {
      return absl::InvalidArgumentError(path.string() + ": key " + std::to_string(keys.size() + 1) +
                                        " holds a character that is not printable ASCII");
    }
    keys.push_back(line);
  }
  if (keys.empty()) return absl::InvalidArgumentError(path.string() + ": holds no key");
  return ApiKeys(keys);
}

bool ApiKeys::allows(std::string_view authorization) const {
  if (digests_.empty()) return true;
  constexpr std::string_view kScheme = "bearer ";
  if (to_lower(authorization.substr(0, kScheme.size())) != kScheme) return false;
  const std::string given = digest(authorization.substr(kScheme.size()));
  // Digests are compared to their last byte, and with every key, so that the time tells nothing.
  unsigned found = 0;
  for (const auto& known : digests_) {
    unsigned difference = 0;
    for (size_t i = 0; i < known.size(); ++i) {
      difference |= static_cast<unsigned>(static_cast<unsigned char>(known[i]) ^
                                          static_cast<unsigned char>(given[i]));
    }
    found |= difference == 0 ? 1u : 0u;
  }
  return found != 0;
}

}  // namespace mole::server
