#include "text/rust_border.h"

#include "base/limit_error.h"

namespace mole::text {

std::string take_bytes(mole_text_bytes bytes) {
  std::string text(reinterpret_cast<const char*>(bytes.data), bytes.size);
  mole_text_bytes_free(bytes);
  return text;
}

std::vector<TokenId> take_ids(mole_text_ids ids) {
  std::vector<TokenId> result(ids.data, ids.data + ids.size);
  mole_text_ids_free(ids);
  return result;
}

Status take_status(mole_text_status status) {
  if (status.code == MOLE_TEXT_OK) return absl::OkStatus();
  const std::string message = take_bytes(status.message);
  if (status.code == MOLE_TEXT_INVALID_ARGUMENT) return absl::InvalidArgumentError(message);
  if (status.code == MOLE_TEXT_OUT_OF_FUEL) {
    return with_passed_limit(absl::InvalidArgumentError(message), "fuel");
  }
  return absl::InternalError(message);
}

}  // namespace mole::text
