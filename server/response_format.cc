#include "server/response_format.h"

#include "server/json_writer.h"

namespace mole::server {

std::string token_text(const text::Tokenizer& tokenizer, TokenId id) {
  return replace_invalid_utf8(tokenizer.token_bytes(id));
}

void append_ids(std::string* out, const std::vector<TokenId>& ids) {
  *out += '[';
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) *out += ',';
    append_int(out, ids[i]);
  }
  *out += ']';
}

}  // namespace mole::server
