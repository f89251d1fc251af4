// Typed, bounded reading of a JSON object's fields. Absent and null are the same: the default. The
// first wrong field is remembered with its name; later calls go on returning defaults, so that a
// reader lists its fields and checks once at the end. Thread: one owner.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/api_error.h"

namespace mole::server {

class FieldReader {
 public:
  /// `object` must outlive the reader; what is no object fails at once.
  explicit FieldReader(const Json& object);

  /// The field, or null when it is absent or null.
  const Json* find(const std::string& key) const;

  bool boolean(const std::string& key, bool fallback);
  int64_t integer(const std::string& key, int64_t fallback, int64_t min, int64_t max);
  double number(const std::string& key, double fallback, double min, double max);
  /// Like number(), but `above` itself is not accepted.
  double number_above(const std::string& key, double fallback, double above, double max);
  /// At most `bytes_max` bytes, which the setting `limit` gives ("": no setting).
  std::string text(const std::string& key, const std::string& fallback, int64_t bytes_max,
                   const std::string& limit = "");
  /// A list of whole numbers in [min, max], at most `size_max` (the setting `limit`) of them.
  std::vector<int32_t> integers(const std::string& key, int64_t min, int64_t max, int64_t size_max,
                                const std::string& limit);

  /// Remembers an error unless there is one already.
  void fail(const std::string& key, const std::string& message);
  /// The same, for a field that passes a setting (past_limit()).
  void fail_past(const std::string& key, const std::string& has, int64_t max,
                 const std::string& limit);
  bool failed() const { return error_.has_value(); }
  const std::optional<ApiError>& error() const { return error_; }

 private:
  const Json& object_;
  std::optional<ApiError> error_;
};

/// "a string", "a number", "an array" …: what an error calls a JSON value.
std::string describe_type(const Json& value);

/// `value` as a whole number in [min, max]; otherwise `*why` says what is wrong.
std::optional<int64_t> whole_number(const Json& value, int64_t min, int64_t max, std::string* why);

}  // namespace mole::server
