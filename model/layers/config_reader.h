// Reads config.json key by key and collects everything that is wrong with it, each with the key,
// its value and what is accepted. Thread: one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/status.h"

namespace mole::model {

class ConfigReader {
 public:
  /// `where` stands before each key in messages ("config.json", "config.json: rope_scaling").
  ConfigReader(const Json& config, std::string where);

  /// True if the key is there and not null.
  bool has(const std::string& key) const;
  const Json* find(const std::string& key) const;  // null if absent or null

  // Required values; a problem returns the least accepted one.
  int64_t integer(const std::string& key, int64_t min, int64_t max);
  double number(const std::string& key, double min, double max);
  // Values with a default for an absent or null key.
  int64_t integer_or(const std::string& key, int64_t fallback, int64_t min, int64_t max);
  double number_or(const std::string& key, double fallback, double min, double max);
  bool flag_or(const std::string& key, bool fallback);
  std::string choice_or(const std::string& key, const std::string& fallback,
                        const std::vector<std::string>& accepted);

  /// Notes that the value of `key` is not what `accepted` says.
  void refuse(const std::string& key, const std::string& accepted);
  /// Takes over the problems of a reader of an inner object.
  void absorb(const ConfigReader& inner);
  /// kInvalidArgument with all problems, or ok.
  Status status() const;

 private:
  const Json& config_;
  std::string where_;
  std::vector<std::string> problems_;
};

/// Token ids under `key`: absent, null, a number or a list of numbers.
std::vector<int32_t> read_token_ids(ConfigReader& reader, const std::string& key,
                                    int64_t vocab_size);

}  // namespace mole::model
