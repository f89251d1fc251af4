// What every call into the Rust library shares: bytes with an owner, and its status as ours.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/status.h"
#include "text/mole_text.h"

namespace mole::text {

inline const uint8_t* rust_bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

/// Copies and frees.
std::string take_bytes(mole_text_bytes bytes);

/// Copies and frees.
std::vector<TokenId> take_ids(mole_text_ids ids);

/// Frees the message. An error about a template's fuel has the passed limit "fuel".
Status take_status(mole_text_status status);

}  // namespace mole::text
