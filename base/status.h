// Errors on the request path and at load are absl::Status; this header names the few helpers we
// use.
//
// Codes and what they mean here: kInvalidArgument (the caller's value is wrong: the message names
// the field, its value and what is accepted), kNotFound, kResourceExhausted (a bound is reached:
// retry), kUnavailable (not ready or draining), kDeadlineExceeded, kCancelled, kDataLoss (a file is
// corrupt), kInternal (our bug).
#pragma once

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mole {

using absl::Status;
using absl::StatusOr;

/// Returns `status` with "`where`: " before its message, so that an error tells its path inwards.
inline Status annotate(const Status& status, const std::string& where) {
  if (status.ok()) return status;
  return Status(status.code(), where + ": " + std::string(status.message()));
}

}  // namespace mole

#define MOLE_CONCAT_INNER(a, b) a##b
#define MOLE_CONCAT(a, b) MOLE_CONCAT_INNER(a, b)

#define MOLE_RETURN_IF_ERROR(expr)               \
  do {                                           \
    ::mole::Status mole_status_ = (expr);        \
    if (!mole_status_.ok()) return mole_status_; \
  } while (false)

#define MOLE_ASSIGN_OR_RETURN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                               \
  if (!tmp.ok()) return tmp.status();              \
  lhs = std::move(tmp).value()

/// MOLE_ASSIGN_OR_RETURN(auto x, make_x()): assigns, or returns the error from this function.
#define MOLE_ASSIGN_OR_RETURN(lhs, expr) \
  MOLE_ASSIGN_OR_RETURN_IMPL(MOLE_CONCAT(mole_status_or_, __LINE__), lhs, expr)
