// API keys: read from a file (never from argv), kept as digests, compared in constant time.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace mole::server {

class ApiKeys {
 public:
  /// No keys: everything is allowed.
  ApiKeys() = default;
  explicit ApiKeys(const std::vector<std::string>& keys);
  /// One key a line; blank lines and lines that begin with '#' are skipped.
  /// Errors: kNotFound; kInvalidArgument (no key in it, or one that no header can carry).
  static StatusOr<ApiKeys> load(const std::filesystem::path& path);

  bool empty() const { return digests_.empty(); }
  /// Whether `authorization` is "Bearer <one of the keys>". Takes the same time for every wrong
  /// key.
  bool allows(std::string_view authorization) const;

 private:
  std::vector<std::string> digests_;  // SHA-256, hex
};

}  // namespace mole::server
