#include "server/field_reader.h"

#include <cmath>
#include <limits>
#include <sstream>

namespace mole::server {
namespace {

std::string print(double value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

std::string range(double min, double max) { return print(min) + " to " + print(max); }

}  // namespace

std::string describe_type(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    default:
      return "a number";
  }
}

std::optional<int64_t> whole_number(const Json& value, int64_t min, int64_t max, std::string* why) {
  const std::string accepted =
      "accepted: a whole number from " + std::to_string(min) + " to " + std::to_string(max);
  if (value.is_number_float()) {
    *why = value.dump() + " is not a whole number; " + accepted;
    return std::nullopt;
  }
  if (!value.is_number()) {
    *why = "is " + describe_type(value) + "; " + accepted;
    return std::nullopt;
  }
  // Above int64's range nlohmann keeps an unsigned value.
  const bool huge =
      value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  const int64_t number = huge ? 0 : value.get<int64_t>();
  if (huge || number < min || number > max) {
    *why = value.dump() + " is out of range; " + accepted;
    return std::nullopt;
  }
  return number;
}

FieldReader::FieldReader(const Json& object) : object_(object) {
  if (!object.is_object()) {
    error_ = ApiError{};
    error_->message = "the body must be a JSON object, not " + describe_type(object);
  }
}

const Json* FieldReader::find(const std::string& key) const {
  if (!object_.is_object()) return nullptr;
  const auto found = object_.find(key);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void FieldReader::fail(const std::string& key, const std::string& message) {
  if (!error_.has_value()) error_ = invalid_field(key, message);
}

void FieldReader::fail_past(const std::string& key, const std::string& has, int64_t max,
                            const std::string& limit) {
  if (!error_.has_value()) error_ = past_limit(key, has, max, limit);
}

bool FieldReader::boolean(const std::string& key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) {
    fail(key, "is " + describe_type(*value) + "; accepted: true or false");
    return fallback;
  }
  return value->get<bool>();
}

int64_t FieldReader::integer(const std::string& key, int64_t fallback, int64_t min, int64_t max) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  std::string why;
  const auto number = whole_number(*value, min, max, &why);
  if (!number.has_value()) fail(key, why);
  return number.value_or(fallback);
}

double FieldReader::number(const std::string& key, double fallback, double min, double max) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  const std::string accepted = "accepted: a number from " + range(min, max);
  if (!value->is_number()) {
    fail(key, "is " + describe_type(*value) + "; " + accepted);
    return fallback;
  }
  const double number = value->get<double>();
  if (!(number >= min && number <= max)) {
    fail(key, print(number) + " is out of range; " + accepted);
    return fallback;
  }
  return number;
}

double FieldReader::number_above(const std::string& key, double fallback, double above,
                                 double max) {
  const double number = this->number(key, fallback, above, max);
  if (number <= above && !failed()) {
    fail(key, print(number) + " is out of range; accepted: a number above " + print(above) +
                  ", up to " + print(max));
    return fallback;
  }
  return number;
}

std::string FieldReader::text(const std::string& key, const std::string& fallback,
                              int64_t bytes_max, const std::string& limit) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) {
    fail(key, "is " + describe_type(*value) + "; accepted: a string");
    return fallback;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (static_cast<int64_t>(text.size()) > bytes_max) {
    fail_past(key, "is " + std::to_string(text.size()) + " bytes long", bytes_max, limit);
    return fallback;
  }
  return text;
}

std::vector<int32_t> FieldReader::integers(const std::string& key, int64_t min, int64_t max,
                                           int64_t size_max, const std::string& limit) {
  const Json* value = find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) {
    fail(key, "is " + describe_type(*value) + "; accepted: an array of whole numbers");
    return {};
  }
  if (static_cast<int64_t>(value->size()) > size_max) {
    fail_past(key, "has " + std::to_string(value->size()) + " entries", size_max, limit);
    return {};
  }
  std::vector<int32_t> numbers;
  numbers.reserve(value->size());
  for (const Json& entry : *value) {
    std::string why;
    const auto number = whole_number(entry, min, max, &why);
    if (!number.has_value()) {
      fail(key, "entry " + std::to_string(numbers.size()) + " " + why);
      return {};
    }
    numbers.push_back(static_cast<int32_t>(*number));
  }
  return numbers;
}

}  // namespace mole::server
