// An error that a bound causes carries the bound's name, so that whoever counts refusals by bound
// need not read messages.
#pragma once

#include <string>
#include <string_view>

#include "absl/strings/cord.h"
#include "base/status.h"

namespace mole {

// absl's own string_view is not the standard's on Debian, so text crosses as std::string.
inline constexpr char kPassedLimitPayload[] = "mole/passed-limit";

/// `limit`: the member of the limits that the failing call was given, "depth_max" say.
inline Status with_passed_limit(Status status, std::string_view limit) {
  status.SetPayload(kPassedLimitPayload, absl::Cord(std::string(limit)));
  return status;
}

/// The name that with_passed_limit() attached; empty for any other error.
inline std::string passed_limit(const Status& status) {
  const auto payload = status.GetPayload(kPassedLimitPayload);
  return payload.has_value() ? std::string(*payload) : std::string();
}

}  // namespace mole
