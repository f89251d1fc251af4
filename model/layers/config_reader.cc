#include "model/layers/config_reader.h"

#include <algorithm>
#include <cmath>
#include <sstream>

#include "absl/strings/str_join.h"

namespace mole::model {

namespace {

constexpr size_t kShownValueMax = 80;  // characters of a wrong value that a message repeats

bool is_integer_in(const Json& value, int64_t min, int64_t max) {
  if (!value.is_number_integer()) return false;
  if (value.is_number_unsigned()) {
    const uint64_t number = value.get<uint64_t>();
    return number <= static_cast<uint64_t>(INT64_MAX) && static_cast<int64_t>(number) >= min &&
           static_cast<int64_t>(number) <= max;
  }
  return value.get<int64_t>() >= min && value.get<int64_t>() <= max;
}

template <typename Number>
std::string range_text(const char* kind, Number min, Number max) {
  std::ostringstream text;
  text << kind << " from " << min << " to " << max;
  return text.str();
}

}  // namespace

ConfigReader::ConfigReader(const Json& config, std::string where)
    : config_(config), where_(std::move(where)) {
  if (!config.is_object()) problems_.push_back(where_ + ": is not a JSON object");
}

const Json* ConfigReader::find(const std::string& key) const {
  if (!config_.is_object()) return nullptr;
  const auto found = config_.find(key);
  return found == config_.end() || found->is_null() ? nullptr : &*found;
}

bool ConfigReader::has(const std::string& key) const { return find(key) != nullptr; }

void ConfigReader::refuse(const std::string& key, const std::string& accepted) {
  const Json* value = find(key);
  std::string shown = "missing";
  if (value != nullptr) {
    shown = value->dump(-1, ' ', true);
    if (shown.size() > kShownValueMax) shown = shown.substr(0, kShownValueMax) + "…";
    shown = "is " + shown;
  }
  problems_.push_back(where_ + ": " + key + " " + shown + "; accepted: " + accepted);
}

int64_t ConfigReader::integer(const std::string& key, int64_t min, int64_t max) {
  const Json* value = find(key);
  if (value != nullptr && is_integer_in(*value, min, max)) return value->get<int64_t>();
  refuse(key, range_text("an integer", min, max));
  return min;
}

double ConfigReader::number(const std::string& key, double min, double max) {
  const Json* value = find(key);
  if (value != nullptr && value->is_number()) {
    const double number = value->get<double>();
    if (std::isfinite(number) && number >= min && number <= max) return number;
  }
  refuse(key, range_text("a number", min, max));
  return min;
}

int64_t ConfigReader::integer_or(const std::string& key, int64_t fallback, int64_t min,
                                 int64_t max) {
  return has(key) ? integer(key, min, max) : fallback;
}

double ConfigReader::number_or(const std::string& key, double fallback, double min, double max) {
  return has(key) ? number(key, min, max) : fallback;
}

bool ConfigReader::flag_or(const std::string& key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  refuse(key, "true or false");
  return fallback;
}

std::string ConfigReader::choice_or(const std::string& key, const std::string& fallback,
                                    const std::vector<std::string>& accepted) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_string()) {
    const std::string text = value->get<std::string>();
    if (std::find(accepted.begin(), accepted.end(), text) != accepted.end()) return text;
  }
  refuse(key, "\"" + absl::StrJoin(accepted, "\", \"") + "\"");
  return fallback;
}

void ConfigReader::absorb(const ConfigReader& inner) {
  problems_.insert(problems_.end(), inner.problems_.begin(), inner.problems_.end());
}

Status ConfigReader::status() const {
  if (problems_.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrJoin(problems_, "\n"));
}

std::vector<int32_t> read_token_ids(ConfigReader& reader, const std::string& key,
                                    int64_t vocab_size) {
  const Json* value = reader.find(key);
  if (value == nullptr) return {};
  const Json list = value->is_array() ? *value : Json::array({*value});
  std::vector<int32_t> ids;
  for (const Json& id : list) {
    if (!is_integer_in(id, 0, vocab_size - 1)) {
      reader.refuse(key, range_text("token ids", int64_t{0}, vocab_size - 1));
      return {};
    }
    ids.push_back(id.get<int32_t>());
  }
  return ids;
}

}  // namespace mole::model
