// JSON from outside, read with bounds: depth, node count, no duplicate keys, no NUL, valid UTF-8.
// The parsed form is nlohmann's; only files that need the value type include <nlohmann/json.hpp>
// (through this header), nothing dumps a value that did not pass these bounds.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/status.h"

namespace mole {

using Json = nlohmann::json;

struct JsonLimits {
  size_t depth_max = 64;           // nested arrays and objects
  size_t nodes_max = 200'000;      // values and keys in all
  size_t object_keys_max = 1'024;  // keys in one object
};

/// Parses exactly one JSON document.
/// Errors: kInvalidArgument with the byte position and what was expected, or with the limit that
/// was passed (passed_limit() of base/limit_error.h names it).
StatusOr<Json> parse_json(std::string_view text, const JsonLimits& limits = {});

}  // namespace mole
